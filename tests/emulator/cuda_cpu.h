// Runs CUDA C kernels on the host, from the same source: include this, then the .cu files, then name each kernel in the
// table `cpu_kernels` (see cpu_kernels.cpp). It proves what a kernel computes and which memory it touches (under ASan
// and UBSan), never how fast it is.
//
// The threads of a block take turns on one OS thread. Those of a kernel with barriers are fibers: each runs to its next
// __syncthreads(), then the next one runs. The order of turns can be changed (cpu_set_order): a result that depends on
// it shows a missing barrier. Some threads of a block at a barrier while others have returned end the process.
#pragma once
#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define FASTSAM_CPU_BUILD 1
#define __global__
#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static  // thread-local arrays have no red zones
#else
#define __shared__ static thread_local  // several OS threads may launch at once
#endif

struct cpu_uint3 {
    unsigned x, y, z;
};
inline thread_local cpu_uint3 threadIdx, blockIdx, blockDim, gridDim;

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a < b ? b : a; }
inline float __expf(float value) { return std::exp(value); }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float cpu_float_from_half(unsigned short bits) { return (float)std::bit_cast<_Float16>(bits); }
inline unsigned short cpu_half_from_float(float value) { return std::bit_cast<unsigned short>((_Float16)value); }

template <class T>
T atomicAdd(T* to, std::type_identity_t<T> value) { return __atomic_fetch_add(to, value, __ATOMIC_RELAXED); }
template <class T>
T atomicOr(T* to, std::type_identity_t<T> value) { return __atomic_fetch_or(to, value, __ATOMIC_RELAXED); }
template <class T>
T atomicAnd(T* to, std::type_identity_t<T> value) { return __atomic_fetch_and(to, value, __ATOMIC_RELAXED); }

extern "C" struct CpuKernel {
    const char* name;
    std::uint32_t arg_count;
    std::uint32_t uses_barriers;
    const std::uint32_t* arg_sizes;    // bytes
    const std::uint32_t* arg_offsets;  // in CUDA's packed buffer
    std::uint32_t packed_bytes;
    int (*run)(void* const* params, const std::uint32_t grid[3], const std::uint32_t block[3], std::uint32_t shared);
};

namespace cpu {

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "cuda_cpu: block (%u, %u, %u): %s\n", blockIdx.x, blockIdx.y, blockIdx.z, what);
    std::abort();
}

// --- One switch of stacks --------------------------------------------------------------------------------------------

#if defined(__x86_64__)
// Keeps what the System V ABI wants kept on the old stack, and goes on where the new one was left. A swapcontext() does
// the same, with a system call each time: 60 times as slow.
extern "C" void cpu_switch_stack(void** leave, void* enter);
asm(R"(
.text
.weak cpu_switch_stack
.type cpu_switch_stack, @function
cpu_switch_stack:
    push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
    ret
.size cpu_switch_stack, .-cpu_switch_stack
)");

struct Context {
    void* stack_pointer = nullptr;

    void prepare(char* stack, std::size_t bytes, void (*entry)()) {
        void** top = reinterpret_cast<void**>(stack + bytes) - 2;  // entry() finds the stack aligned as if called
        top[0] = reinterpret_cast<void*>(entry);
        top[1] = nullptr;
        stack_pointer = top - 6;
        std::memset(stack_pointer, 0, 6 * sizeof(void*));
    }
    static void change(Context& leave, Context& enter) { cpu_switch_stack(&leave.stack_pointer, enter.stack_pointer); }
};
#else
struct Context {
    ucontext_t state;

    void prepare(char* stack, std::size_t bytes, void (*entry)()) {
        getcontext(&state);
        state.uc_stack.ss_sp = stack;
        state.uc_stack.ss_size = bytes;
        state.uc_link = nullptr;
        makecontext(&state, entry, 0);
    }
    static void change(Context& leave, Context& enter) { swapcontext(&leave.state, &enter.state); }
};
#endif

// --- The threads of a block ------------------------------------------------------------------------------------------

class Stack {
public:
    Stack() : memory_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
        if (memory_ == MAP_FAILED || mprotect(memory_, kGuard, PROT_NONE) != 0) fail("no memory for a stack");
    }
    Stack(const Stack&) = delete;
    Stack& operator=(const Stack&) = delete;
    ~Stack() { munmap(memory_, kBytes); }
    char* bottom() const { return static_cast<char*>(memory_) + kGuard; }
    static constexpr std::size_t size() { return kBytes - kGuard; }

private:
    static constexpr std::size_t kBytes = 256 << 10, kGuard = 16 << 10;  // only what is used is ever real memory
    void* memory_;
};

struct Fiber {
    Stack stack;
    Context context;
    bool finished = false;
    void* fake_stack = nullptr;  // of ASan
};

inline std::atomic<int> order_of_turns{0};

// 0 … count - 1, ascending, descending, or shuffled, each time in another way.
inline void set_turns(std::vector<unsigned>& turns, unsigned count, std::uint32_t& seed) {
    turns.resize(count);
    std::iota(turns.begin(), turns.end(), 0u);
    const int order = order_of_turns.load(std::memory_order_relaxed);
    for (unsigned i = 0; order == 1 && i < count / 2; ++i) std::swap(turns[i], turns[count - 1 - i]);
    for (unsigned i = count; order == 2 && i > 1; --i) {
        seed = seed * 1664525u + 1013904223u;
        std::swap(turns[i - 1], turns[(seed >> 8) % i]);
    }
}

class Block {
public:
    using Body = void (*)(void* const* params);

    // All blocks of a launch, one after the other.
    void launch(Body body, void* const* params, bool barriers) {
        body_ = body;
        params_ = params;
        const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
        std::uint32_t seed = 1;
        set_turns(blocks_, gridDim.x * gridDim.y * gridDim.z, seed);
        for (unsigned block : blocks_) {
            blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / gridDim.x / gridDim.y};
            if (barriers) {
                run_fibers(threads, seed);
            } else {
                set_turns(turns_, threads, seed);
                for (unsigned thread : turns_) {
                    set_thread(thread);
                    body(params);
                }
            }
        }
    }

    void barrier() {
        if (current_ == nullptr) fail("a barrier in a kernel that is registered without any");
        Fiber& fiber = *current_;
        leave(fiber, false);
    }

    static Block& own() {
        static thread_local Block block;
        return block;
    }

private:
    static void set_thread(unsigned thread) {
        threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
    }

    void run_fibers(unsigned threads, std::uint32_t& seed) {
        while (fibers_.size() < threads) fibers_.push_back(std::make_unique<Fiber>());
        for (unsigned i = 0; i < threads; ++i) {
            fibers_[i]->finished = false;
            fibers_[i]->fake_stack = nullptr;
            fibers_[i]->context.prepare(fibers_[i]->stack.bottom(), Stack::size(), &Block::enter);
        }
        for (unsigned finished = 0; finished < threads;) {
            set_turns(turns_, threads, seed);
            finished = 0;
            for (unsigned thread : turns_) {
                set_thread(thread);
                resume(*fibers_[thread]);
                finished += fibers_[thread]->finished;
            }
            if (finished != 0 && finished != threads) fail("some threads wait at a barrier, others have returned");
        }
    }

    void resume(Fiber& fiber) {
        current_ = &fiber;
#if defined(__SANITIZE_ADDRESS__)
        void* fake_stack = nullptr;
        __sanitizer_start_switch_fiber(&fake_stack, fiber.stack.bottom(), Stack::size());
#endif
        Context::change(scheduler_, fiber.context);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
        current_ = nullptr;
    }

    void leave(Fiber& fiber, bool for_good) {
        (void)for_good;
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, scheduler_bottom_, scheduler_size_);
#endif
        Context::change(fiber.context, scheduler_);
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(fiber.fake_stack, &scheduler_bottom_, &scheduler_size_);
#endif
    }

    static void enter() {
        Block& block = own();
        Fiber& fiber = *block.current_;
#if defined(__SANITIZE_ADDRESS__)
        __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_bottom_, &block.scheduler_size_);
#endif
        block.body_(block.params_);
        fiber.finished = true;
        block.leave(fiber, true);
        fail("a thread ran on after its end");
    }

    std::vector<std::unique_ptr<Fiber>> fibers_;
    std::vector<unsigned> turns_, blocks_;
    Context scheduler_;
    Fiber* current_ = nullptr;
    Body body_ = nullptr;
    void* const* params_ = nullptr;
    const void* scheduler_bottom_ = nullptr;
    std::size_t scheduler_size_ = 0;
};

// --- The table of kernels --------------------------------------------------------------------------------------------

template <auto kernel, class Signature = decltype(kernel)>
struct Registered;

template <auto kernel, class... Args>
struct Registered<kernel, void (*)(Args...)> {
    static constexpr std::uint32_t count = sizeof...(Args);
    static constexpr std::uint32_t sizes[] = {sizeof(Args)...};

    struct Packing {
        std::uint32_t offsets[count], end = 0;
        constexpr Packing() : offsets{} {
            constexpr std::uint32_t alignments[] = {alignof(Args)...};
            for (std::uint32_t i = 0; i < count; ++i) {
                offsets[i] = (end + alignments[i] - 1) / alignments[i] * alignments[i];
                end = offsets[i] + sizes[i];
            }
        }
    };
    static constexpr Packing packing{};

    static void body(void* const* params) { call(params, std::index_sequence_for<Args...>{}); }

    template <std::size_t... i>
    static void call(void* const* params, std::index_sequence<i...>) { kernel(*static_cast<Args*>(params[i])...); }

    template <bool barriers>
    static int run(void* const* params, const std::uint32_t grid[3], const std::uint32_t block[3],
                   std::uint32_t shared) {
        std::uint64_t threads = 1;
        for (int axis = 0; axis < 3; ++axis) {
            if (grid[axis] == 0 || block[axis] == 0) return 1;
            threads *= block[axis];
        }
        if (threads > 1024 || shared != 0) return 1;
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {block[0], block[1], block[2]};
        Block::own().launch(&body, params, barriers);
        return 0;
    }
};

template <auto kernel, bool barriers>
constexpr CpuKernel registered(const char* name) {
    using Entry = Registered<kernel>;
    return {name, Entry::count, barriers, Entry::sizes, Entry::packing.offsets, Entry::packing.end,
            &Entry::template run<barriers>};
}

}  // namespace cpu

inline void __syncthreads() { cpu::Block::own().barrier(); }

#define CPU_KERNEL(name) cpu::registered<&name, false>(#name)
#define CPU_KERNEL_WITH_BARRIERS(name) cpu::registered<&name, true>(#name)
