// Modules and launches. The PTX is read for the names and parameters of its kernels; what runs is their host build.
#include "state.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <regex>
#include <sstream>

namespace {

constexpr int64_t MOST_SHARED = 64 * 1024;  // what a kernel may ask for on Turing

const CpuKernel* kernel_named(const std::string& name) {
    // The library that was added last wins.
    for (auto at = driver().kernels.rbegin(); at != driver().kernels.rend(); ++at) {
        for (uint32_t i = 0; i < at->second; ++i) {
            if (name == at->first[i].name) return &at->first[i];
        }
    }
    return nullptr;
}

uint32_t size_of(const std::string& type) {
    if (type.size() < 2) return 0;
    const int bits = atoi(type.c_str() + 1);
    return type[0] != 'p' ? uint32_t(bits / 8) : 0;
}

// Sizes of the parameters of each `.entry NAME(.param .u64 NAME_param_0, …)`; arrays of bytes are structs.
std::map<std::string, std::vector<uint32_t>> entries_of(const std::string& ptx) {
    static const std::regex entry(R"(\.entry\s+([A-Za-z_$][\w$]*)\s*(?:\(([^)]*)\))?)");
    static const std::regex parameter(R"(\.param\s+(?:\.align\s+\d+\s+)?\.([bsuf]\d+)(?:\s+\.ptr(?:\s+\.\w+)*(?:\s+\.align\s+\d+)?)?\s+[\w$]+(?:\[(\d+)\])?)");
    std::map<std::string, std::vector<uint32_t>> found;
    for (std::sregex_iterator at(ptx.begin(), ptx.end(), entry), end; at != end; ++at) {
        std::vector<uint32_t>& sizes = found[(*at)[1]];
        const std::string parameters = (*at)[2];
        for (std::sregex_iterator one(parameters.begin(), parameters.end(), parameter); one != end; ++one) {
            const uint32_t times = (*one)[2].matched ? uint32_t(atoi((*one)[2].str().c_str())) : 1;
            sizes.push_back(size_of((*one)[1]) * times);
        }
    }
    return found;
}

std::string without_comments(const std::string& ptx) {
    return std::regex_replace(ptx, std::regex(R"(//[^\n]*)"), "");
}

// Empty, or why the host build is not the build of this PTX.
std::string difference(const std::string& name, const std::vector<uint32_t>& sizes) {
    const CpuKernel* kernel = kernel_named(name);
    if (!kernel) return "";  // an error where it is asked for
    const std::vector<uint32_t> ours(kernel->arg_sizes, kernel->arg_sizes + kernel->arg_count);
    if (ours == sizes) return "";
    std::ostringstream text;
    text << name << ": the parameters in the PTX have";
    for (uint32_t size : sizes) text << ' ' << size;
    text << " bytes, in the host build";
    for (uint32_t size : ours) text << ' ' << size;
    return text.str();
}

Status load(Module** module, const char* image, std::string& log) {
    const std::string ptx = without_comments(image);
    if (ptx.find(".version") == std::string::npos || ptx.find(".target") == std::string::npos) {
        log = "ptxas fatal: Missing .version directive (this driver reads PTX only)";
        return INVALID_PTX;
    }
    auto made = std::make_unique<Module>();
    made->context = current();
    for (const auto& [name, sizes] : entries_of(ptx)) {
        log = difference(name, sizes);
        if (!log.empty()) return INVALID_PTX;
        made->entries.insert(name);
    }
    *module = made.release();
    driver().modules.insert(*module);
    count("modules");
    return SUCCESS;
}

// Every argument in a buffer of its own, at the offsets that a GPU's constant bank would have.
bool packed(const CpuKernel& kernel, void** params, void** extra, std::vector<char>& buffer) {
    buffer.assign(kernel.packed_bytes, 0);
    if (params) {
        for (uint32_t i = 0; i < kernel.arg_count; ++i) {
            if (!params[i]) return false;
            std::memcpy(&buffer[kernel.arg_offsets[i]], params[i], kernel.arg_sizes[i]);
        }
        return true;
    }
    const void* source = nullptr;
    size_t bytes = 0;
    for (; extra && *extra; extra += 2) {
        if (*extra == reinterpret_cast<void*>(1)) source = extra[1];
        if (*extra == reinterpret_cast<void*>(2)) bytes = *static_cast<size_t*>(extra[1]);
    }
    // Nothing may be missing and nothing may be left over, but for the padding at the end.
    if (bytes < kernel.packed_bytes || bytes > (kernel.packed_bytes + 7) / 8 * 8) return false;
    if (kernel.packed_bytes) std::memcpy(buffer.data(), source, kernel.packed_bytes);
    return true;
}

}  // namespace

EXPORT int emulated_add_kernels(const char* path) {
    std::unique_lock held(driver().lock);
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        complain(dlerror());
        return NOT_FOUND;
    }
    const auto* kernels = static_cast<const CpuKernel*>(dlsym(library, "cpu_kernels"));
    const auto* number = static_cast<const uint32_t*>(dlsym(library, "cpu_kernel_count"));
    if (!kernels || !number) {
        complain(std::string(path) + ": no cpu_kernels or cpu_kernel_count");
        return NOT_FOUND;
    }
    driver().kernels.emplace_back(kernels, *number);
    return SUCCESS;
}

void load_kernels_of_environment() {
    const char* paths = getenv("FASTSAM_EMULATED_CUDA_KERNELS");
    std::istringstream all(paths ? paths : "");
    for (std::string path; std::getline(all, path, ':');) {
        if (!path.empty()) emulated_add_kernels(path.c_str());
    }
}

void unload_modules_of(Context* context) {
    for (Module* module : std::set<Module*>(driver().modules)) {
        if (module->context != context) continue;
        driver().modules.erase(module);
        count("modules", -1);
        delete module;
    }
}

EXPORT int cuModuleLoadDataEx(Module** module, const void* image, unsigned number, int* options, void** values) {
    ENTER(CONTEXT);
    std::string log;
    const Status status = load(module, static_cast<const char*>(image), log);
    // Options 3 and 5 are the buffers for information and errors, 4 and 6 their sizes; they answer how much was written.
    for (unsigned i = 0; i + 1 < number; ++i) {
        if (options[i] != 3 && options[i] != 5) continue;
        const std::string text = options[i] == 5 ? log : "";
        const size_t length = std::min(text.size(), size_t(values[i + 1]));
        std::memcpy(values[i], text.data(), length);
        values[i + 1] = reinterpret_cast<void*>(length);
    }
    return status;
}

EXPORT int cuModuleLoadData(Module** module, const void* image) {
    return cuModuleLoadDataEx(module, image, 0, nullptr, nullptr);
}

EXPORT int cuModuleUnload(Module* module) {
    ENTER(CONTEXT);
    if (!driver().modules.erase(module)) {
        count("bad_frees");
        return INVALID_HANDLE;
    }
    count("modules", -1);
    delete module;
    return SUCCESS;
}

EXPORT int cuModuleGetFunction(Function** function, Module* module, const char* name) {
    ENTER(CONTEXT);
    if (!driver().modules.count(module)) return INVALID_HANDLE;
    if (!module->entries.count(name)) return NOT_FOUND;
    std::unique_ptr<Function>& found = module->functions[name];
    if (!found) {
        const CpuKernel* kernel = kernel_named(name);
        if (!kernel) {
            complain(std::string("no host build of the kernel ") + name + "; name it in FASTSAM_EMULATED_CUDA_KERNELS");
            return NOT_FOUND;
        }
        found = std::make_unique<Function>(Function{module, kernel});
    }
    *function = found.get();
    return SUCCESS;
}

EXPORT int cuFuncGetAttribute(int* value, int attribute, Function* function) {
    ENTER(CONTEXT);
    *value = attribute == 0 ? 1024 : attribute == 8 ? int(function->shared_allowed) : 0;
    return SUCCESS;
}

EXPORT int cuFuncSetAttribute(Function* function, int attribute, int value) {
    ENTER(CONTEXT);
    if (attribute != 8 || value < 0 || value > MOST_SHARED) return INVALID_VALUE;
    function->shared_allowed = value;
    return SUCCESS;
}

EXPORT int cuFuncSetBlockShape(Function*, int x, int y, int z) {
    ENTER(CONTEXT);
    return x > 0 && y > 0 && z > 0 && int64_t(x) * y * z <= 1024 ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream* stream, void** params, void** extra) {
    ENTER(CONTEXT);
    if (!function || !driver().modules.count(function->module)) return INVALID_HANDLE;
    if (function->module->context != current()) return INVALID_HANDLE;
    const uint64_t threads = uint64_t(block_x) * block_y * block_z;
    if (!grid_x || !grid_y || !grid_z || grid_x > 2147483647u || grid_y > 65535 || grid_z > 65535) return INVALID_VALUE;
    if (!threads || threads > 1024 || block_z > 64) return INVALID_VALUE;
    if (shared_bytes > function->shared_allowed) return INVALID_VALUE;
    const CpuKernel* kernel = function->kernel;
    std::vector<char> buffer;
    if (!packed(*kernel, params, extra, buffer)) return INVALID_VALUE;
    Context* context = current();
    return put(stream, [=]() mutable -> Status {
        std::vector<void*> pointers;
        for (uint32_t i = 0; i < kernel->arg_count; ++i) pointers.push_back(&buffer[kernel->arg_offsets[i]]);
        const uint32_t grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
        count("launches");
        if (setting("launch_error")) return Status(setting("launch_error"));
        if (kernel->run(pointers.data(), grid, block, shared_bytes)) return LAUNCH_FAILED;
        check_guards(context);
        return context->broken;
    });
}
