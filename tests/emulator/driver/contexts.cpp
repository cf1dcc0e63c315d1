// Starting the driver, devices, contexts, settings and counters.
#include "state.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int DRIVER_VERSION = 13000;
const char* const SETTINGS[] = {"init_error", "devices", "memory", "defer", "seed", "launch_error"};

struct AtExit {
    // Where FASTSAM_EMULATED_CUDA_REPORT names a file, the counters are written there when the process ends.
    ~AtExit() {
        const char* path = getenv("FASTSAM_EMULATED_CUDA_REPORT");
        std::FILE* file = path && driver().process == getpid() ? std::fopen(path, "w") : nullptr;
        if (!file) return;
        for (const auto& [name, value] : driver().counters) std::fprintf(file, "%s %lld\n", name.c_str(), (long long)value);
        std::fclose(file);
    }
};

int64_t default_of(const std::string& name) {
    if (name == "devices") return 2;
    if (name == "memory") return int64_t(8) << 30;
    return 0;
}

void read_environment() {
    for (const char* name : SETTINGS) {
        std::string variable = std::string("FASTSAM_EMULATED_CUDA_") + name;
        std::transform(variable.begin(), variable.end(), variable.begin(), ::toupper);
        const char* value = getenv(variable.c_str());
        if (!driver().settings.count(name)) driver().settings[name] = value ? atoll(value) : default_of(name);
    }
}

void destroy(Context* context) {
    run_context(context);
    unload_modules_of(context);
    destroy_streams_of(context);
    free_blocks_of(context);
    driver().contexts.erase(context);
    context->device->primary = nullptr;
    count("contexts", -1);
    delete context;
}

Device* device_of(int number) {
    auto& devices = driver().devices;
    return number >= 0 && size_t(number) < devices.size() ? devices[number].get() : nullptr;
}

}  // namespace

Driver& driver() {
    static Driver* one = [] {
        static AtExit at_exit;
        return new Driver;  // never deleted: destructors of other libraries may still call
    }();
    return *one;
}

std::vector<Context*>& current_stack() {
    static thread_local std::vector<Context*> stack;
    return stack;
}

Context* current() { return current_stack().empty() ? nullptr : current_stack().back(); }
uint64_t this_thread() { return uint64_t(syscall(SYS_gettid)); }
int64_t setting(const std::string& name) {
    auto found = driver().settings.find(name);
    return found == driver().settings.end() ? default_of(name) : found->second;
}
void count(const std::string& name, int64_t more) { driver().counters[name] += more; }
void complain(const std::string& text) { std::fprintf(stderr, "emulated CUDA: %s\n", text.c_str()); }

Entry::Entry(Needs needs) {
    // Before the lock: in a forked child it may be held by a thread that is not there.
    const int process = driver().process;
    if (process && process != getpid()) {
        status = NOT_INITIALIZED;
        return;
    }
    held_ = std::unique_lock(driver().lock);
    if (needs == NOTHING) return;
    if (!process) {
        status = NOT_INITIALIZED;
    } else if (needs == CONTEXT) {
        Context* context = current();
        if (!context) status = INVALID_CONTEXT;
        else if (!driver().contexts.count(context)) status = CONTEXT_IS_DESTROYED;
        else status = context->broken;
    }
}

EXPORT int cuInit(unsigned flags) {
    ENTER(NOTHING);
    if (flags) return INVALID_VALUE;
    if (driver().process) return SUCCESS;
    read_environment();
    if (setting("init_error")) return int(setting("init_error"));
    if (setting("devices") < 1) return NO_DEVICE;
    for (int number = 0; number < setting("devices"); ++number) {
        // Turing with the first, so that PTX for compute_75 is all that any of them needs.
        driver().devices.push_back(std::make_unique<Device>(Device{number, number ? 9 : 7, number ? 0 : 5}));
    }
    driver().process = getpid();
    load_kernels_of_environment();
    return SUCCESS;
}

EXPORT int cuDriverGetVersion(int* version) {
    *version = DRIVER_VERSION;
    return SUCCESS;
}

EXPORT int cuDeviceGetCount(int* found) {
    ENTER(DRIVER);
    *found = int(driver().devices.size());
    return SUCCESS;
}

EXPORT int cuDeviceGet(int* device, int number) {
    ENTER(DRIVER);
    if (!device_of(number)) return INVALID_DEVICE;
    *device = number;
    return SUCCESS;
}

EXPORT int cuDeviceGetName(char* name, int room, int device) {
    ENTER(DRIVER);
    if (!device_of(device)) return INVALID_DEVICE;
    std::snprintf(name, size_t(room), "Emulated GPU %d", device);
    return SUCCESS;
}

EXPORT int cuDeviceGetPCIBusId(char* text, int room, int device) {
    ENTER(DRIVER);
    if (!device_of(device)) return INVALID_DEVICE;
    std::snprintf(text, size_t(room), "0000:%02X:00.0", device + 1);
    return SUCCESS;
}

EXPORT int cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
    ENTER(DRIVER);
    if (!device_of(device)) return INVALID_DEVICE;
    for (int i = 0; i < 16; ++i) uuid[i] = static_cast<unsigned char>(i * 16 + device);
    return SUCCESS;
}
EXPORT int cuDeviceGetUuid(unsigned char* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int device) {
    ENTER(DRIVER);
    if (!device_of(device)) return INVALID_DEVICE;
    *bytes = size_t(setting("memory"));
    return SUCCESS;
}

EXPORT int cuDeviceComputeCapability(int* major, int* minor, int device) {
    ENTER(DRIVER);
    const Device* found = device_of(device);
    if (!found) return INVALID_DEVICE;
    *major = found->major;
    *minor = found->minor;
    return SUCCESS;
}

EXPORT int cuDeviceGetAttribute(int* value, int attribute, int device) {
    ENTER(DRIVER);
    const Device* found = device_of(device);
    if (!found) return INVALID_DEVICE;
    const std::map<int, int> known = {{1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535},
        {7, 65535}, {8, 49152}, {10, 32}, {16, 4}, {75, found->major}, {76, found->minor}, {97, 65536}};
    const auto at = known.find(attribute);
    *value = at == known.end() ? 0 : at->second;
    return SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRetain(Context** context, int device) {
    ENTER(DRIVER);
    Device* found = device_of(device);
    if (!found) return INVALID_DEVICE;
    if (!found->primary) {
        found->primary = new Context{found};
        found->primary->own.context = found->primary;
        driver().contexts.insert(found->primary);
        count("contexts");
    }
    ++found->primary->retains;
    *context = found->primary;
    return SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER(DRIVER);
    Device* found = device_of(device);
    if (!found) return INVALID_DEVICE;
    if (!found->primary) return INVALID_CONTEXT;
    if (--found->primary->retains == 0) destroy(found->primary);
    return SUCCESS;
}

EXPORT int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
    ENTER(DRIVER);
    if (!device_of(device)) return INVALID_DEVICE;
    *flags = 0;
    *active = device_of(device)->primary != nullptr;
    return SUCCESS;
}

EXPORT int cuCtxPushCurrent_v2(Context* context) {
    ENTER(DRIVER);
    if (!driver().contexts.count(context)) return INVALID_CONTEXT;
    current_stack().push_back(context);
    return SUCCESS;
}

EXPORT int cuCtxPopCurrent_v2(Context** context) {
    ENTER(DRIVER);
    if (current_stack().empty()) return INVALID_CONTEXT;
    if (context) *context = current();
    current_stack().pop_back();
    return SUCCESS;
}

EXPORT int cuCtxGetCurrent(Context** context) {
    ENTER(DRIVER);
    *context = current();
    return SUCCESS;
}

EXPORT int cuCtxSetCurrent(Context* context) {
    ENTER(DRIVER);
    if (context && !driver().contexts.count(context)) return INVALID_CONTEXT;
    if (!current_stack().empty()) current_stack().pop_back();
    if (context) current_stack().push_back(context);
    return SUCCESS;
}

EXPORT int cuCtxGetDevice(int* device) {
    ENTER(CONTEXT);
    *device = current()->device->number;
    return SUCCESS;
}

EXPORT int cuCtxSynchronize() {
    ENTER(CONTEXT);
    if (forbidden_while_capturing()) return CAPTURE_UNSUPPORTED;
    return run_context(current());
}

// What only this driver has, for tests (through ctypes).
EXPORT int64_t emulated_counter(const char* name) {
    std::unique_lock held(driver().lock);
    return driver().counters[name];
}
EXPORT void emulated_set(const char* name, int64_t value) {
    std::unique_lock held(driver().lock);
    driver().settings[name] = value;
    if (std::string(name) == "idle") driver().is_idle = value != 0;
}
