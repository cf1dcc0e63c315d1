// An emulated NVIDIA driver (libcuda.so.1) for tests: what it knows. No GPU, no CUDA headers.
//
// Device memory is host memory in a registry that checks every range; kernels are their own source, compiled for the
// host. When work runs is a setting, "defer":
//   0  at once, in the calling thread;
//   1  as late as CUDA guarantees it: a host that forgets to synchronise reads old bytes;
//   2  at any time and in any order that CUDA allows, drawn from the setting "seed": streams overtake each other wherever
//      no event keeps them in order.
// In 1 and 2, memory that a copy will read must not change before it has; in 2, memory that one will fill holds nonsense
// until then. With the setting "idle" nothing computes and nothing is copied: what is left is the host's own work, for
// benchmarks. One lock for everything: this is about being right, never about speed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

enum Status : int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    INVALID_PTX = 218,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    CONTEXT_IS_DESTROYED = 709,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
    CAPTURE_WRONG_THREAD = 908,
};

struct Context;
struct Stream;

// One piece of work in a stream. It may run many times: a graph replays it.
struct Work {
    template <class Run>
    Work(Run run) : run(std::move(run)) {}  // NOLINT: any function is work
    template <class Run, class Ready>
    Work(Run run, Ready ready) : run(std::move(run)), ready(std::move(ready)), is_event(true) {}

    std::function<Status()> run;
    std::function<bool()> ready{};  // none: always
    bool is_event = false;          // that is done on an idle device too
};

struct Block {  // device memory or page-locked memory
    char* start;
    size_t bytes;
    char* whole;  // with guards on both sides
    Context* context;
    bool device;
};

struct Capture {
    std::vector<Work> work;
    bool valid = true;
    int mode = 0;
    uint64_t thread = 0;
};

struct Stream {
    Context* context;
    unsigned flags;
    std::deque<Work> queue{};
    std::unique_ptr<Capture> capture{};
};

struct Event {
    Context* context;
    unsigned flags;
    Stream* stream = nullptr;
    int64_t recorded = 0;  // how often it was put into a stream
    int64_t reached = 0;   // the last of these that the stream has come to
    double at_ms = 0;
    bool captured = false;
};

struct CpuKernel {  // the layout that the host build of the kernels exports
    const char* name;
    uint32_t arg_count;
    uint32_t uses_barriers;
    const uint32_t* arg_sizes;
    const uint32_t* arg_offsets;
    uint32_t packed_bytes;
    int (*run)(void* const* params, const uint32_t grid[3], const uint32_t block[3], uint32_t dynamic_shared_bytes);
};

struct Module;
struct Function {
    Module* module;
    const CpuKernel* kernel;
    int64_t shared_allowed = 48 * 1024;
};
struct Module {
    Context* context;
    std::set<std::string> entries;
    std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Graph {
    std::vector<Work> work;
};
struct Executable {
    std::vector<Work> work;
};

struct Device {
    int number;
    int major, minor;
    Context* primary = nullptr;
};

struct Context {
    Device* device;
    int retains = 0;
    Status broken = SUCCESS;  // after a kernel went wrong, every call answers this
    Stream own{};             // the default stream
};

struct Driver {
    std::recursive_mutex lock;
    int process = 0;  // that called cuInit
    bool is_idle = false;
    std::map<std::string, int64_t> settings, counters;
    std::vector<std::unique_ptr<Device>> devices;
    std::set<Context*> contexts;
    std::map<uintptr_t, Block> blocks;
    std::set<Stream*> streams;
    std::map<Event*, std::shared_ptr<Event>> events;  // work that waits for one keeps it
    std::set<Module*> modules;
    std::set<Graph*> graphs;
    std::set<Executable*> executables;
    std::vector<std::pair<const CpuKernel*, uint32_t>> kernels;
};

Driver& driver();
std::vector<Context*>& current_stack();  // of this thread
Context* current();
uint64_t this_thread();
int64_t setting(const std::string& name);
void count(const std::string& name, int64_t more = 1);
void complain(const std::string& text);  // to stderr: what the driver's status cannot say

// Taken by every entry: the lock, and what is wrong with the call before it begins.
class Entry {
public:
    enum Needs { NOTHING, DRIVER, CONTEXT };
    explicit Entry(Needs needs);
    Status status = SUCCESS;

private:
    std::unique_lock<std::recursive_mutex> held_;
};
#define ENTER(NEEDS)            \
    Entry entry(Entry::NEEDS);  \
    if (entry.status != SUCCESS) \
    return entry.status

// streams.cpp
Status put(Stream* handle, Work work);     // null: the default stream of the current context
Status run_all(Stream* stream);            // until its queue is empty
bool is_recorded(Stream* handle);          // into a graph
Status run_context(Context* context, bool non_blocking_too = true);
bool forbidden_while_capturing();          // a call that would break this thread's recording; it does break it
void destroy_streams_of(Context* context);

// memory.cpp
bool covers(uint64_t pointer, size_t bytes, Context** owner = nullptr);  // within one piece of device memory
void check_guards(Context* context);                                     // marks the context as broken
void free_blocks_of(Context* context);

// kernels.cpp
void load_kernels_of_environment();
void unload_modules_of(Context* context);
