// Host build of tiny.cu for the emulated driver: no more of CUDA than these three kernels need.
#include <cstddef>
#include <cstdint>
#include <utility>

struct Triple {
    unsigned x, y, z;
};
static thread_local Triple threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#include "tiny.cu"
#undef __global__

struct CpuKernel {
    const char* name;
    uint32_t arg_count, uses_barriers;
    const uint32_t *arg_sizes, *arg_offsets;
    uint32_t packed_bytes;
    int (*run)(void* const* params, const uint32_t grid[3], const uint32_t block[3], uint32_t dynamic_shared_bytes);
};

template <auto kernel>
struct Host;

template <class... Args, void (*kernel)(Args...)>
struct Host<kernel> {
    static constexpr uint32_t sizes[] = {sizeof(Args)...};

    struct Layout {
        uint32_t offsets[sizeof...(Args)];
        uint32_t end;
    };
    static constexpr Layout layout = [] {
        Layout made{};
        uint32_t index = 0;
        const auto place = [&](uint32_t size, uint32_t alignment) {
            made.end = (made.end + alignment - 1) / alignment * alignment;
            made.offsets[index++] = made.end;
            made.end += size;
        };
        (place(sizeof(Args), alignof(Args)), ...);
        return made;
    }();

    template <std::size_t... I>
    static void call(void* const* params, std::index_sequence<I...>) {
        kernel(*static_cast<Args*>(params[I])...);
    }

    static int run(void* const* params, const uint32_t grid[3], const uint32_t block[3], uint32_t) {
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {block[0], block[1], block[2]};
        const unsigned blocks = grid[0] * grid[1] * grid[2], threads = block[0] * block[1] * block[2];
        for (unsigned b = 0; b < blocks; ++b) {
            blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
            for (unsigned t = 0; t < threads; ++t) {
                threadIdx = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
                call(params, std::index_sequence_for<Args...>());
            }
        }
        return 0;
    }

    static constexpr CpuKernel named(const char* name) {
        return {name, sizeof...(Args), 0, sizes, layout.offsets, layout.end, run};
    }
};

extern "C" {
__attribute__((visibility("default"))) extern const CpuKernel cpu_kernels[] = {
    Host<scale_add>::named("scale_add"), Host<echo>::named("echo"), Host<store>::named("store")};
__attribute__((visibility("default"))) extern const uint32_t cpu_kernel_count = 3;
}
