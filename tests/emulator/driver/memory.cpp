// Memory: every piece is known, has guards on both sides, and begins with bytes that nobody should rely on.
#include "state.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t GUARD = 512;  // also the alignment
constexpr unsigned char GUARD_BYTE = 0xA5, FRESH_BYTE = 0xCB, FREED_BYTE = 0xDD, UNREAD_BYTE = 0xEE;

const char* kind(const Block& block) { return block.device ? "device" : "pinned"; }

void add_up(const Block& block, int sign) {
    count(std::string(kind(block)) + "_blocks", sign);
    count(std::string(kind(block)) + "_bytes", sign * int64_t(block.bytes));
}

bool guards_hold(const Block& block) {
    for (size_t i = 0; i < GUARD; ++i) {
        if (static_cast<unsigned char>(block.whole[i]) != GUARD_BYTE) return false;
        if (static_cast<unsigned char>(block.start[block.bytes + i]) != GUARD_BYTE) return false;
    }
    return true;
}

void report_broken_guard(const Block& block) {
    count("guard_violations");
    complain("something wrote beside a block of " + std::to_string(block.bytes) + " bytes of " + kind(block) + " memory");
    // Once is enough.
    std::memset(block.whole, GUARD_BYTE, GUARD);
    std::memset(block.start + block.bytes, GUARD_BYTE, GUARD);
}

void give_back(const Block& block) {
    if (!guards_hold(block)) report_broken_guard(block);
    std::memset(block.start, FREED_BYTE, block.bytes);
    add_up(block, -1);
    std::free(block.whole);
}

Status allocate(void** pointer, size_t bytes, bool device) {
    if (!bytes || !pointer) return INVALID_VALUE;
    if (forbidden_while_capturing()) return CAPTURE_UNSUPPORTED;
    if (device) {
        int64_t used = 0;
        for (const auto& [_, block] : driver().blocks) {
            if (block.device && block.context->device == current()->device) used += int64_t(block.bytes);
        }
        if (int64_t(bytes) > setting("memory") - used) return OUT_OF_MEMORY;
    } else if (int64_t(bytes) > setting("memory")) {
        return OUT_OF_MEMORY;
    }
    const size_t whole = (bytes + 2 * GUARD + GUARD - 1) / GUARD * GUARD;
    auto* memory = static_cast<char*>(std::aligned_alloc(GUARD, whole));
    if (!memory) return OUT_OF_MEMORY;
    std::memset(memory, GUARD_BYTE, whole);
    const Block block{memory + GUARD, bytes, memory, current(), device};
    std::memset(block.start, FRESH_BYTE, bytes);
    driver().blocks[uintptr_t(block.start)] = block;
    add_up(block, 1);
    *pointer = block.start;
    return SUCCESS;
}

Status release(uintptr_t pointer, bool device) {
    auto found = driver().blocks.find(pointer);
    if (found == driver().blocks.end() || found->second.device != device) {
        count("bad_frees");
        return INVALID_VALUE;
    }
    if (forbidden_while_capturing()) return CAPTURE_UNSUPPORTED;
    // As the real one: nothing that was put into a stream may still be using it.
    for (Context* context : std::set<Context*>(driver().contexts)) {
        if (context->broken == SUCCESS) run_context(context);
    }
    give_back(found->second);
    driver().blocks.erase(found);
    return SUCCESS;
}

const Block* block_of(uint64_t pointer) {
    auto after = driver().blocks.upper_bound(uintptr_t(pointer));
    if (after == driver().blocks.begin()) return nullptr;
    const Block& block = std::prev(after)->second;
    return pointer < uintptr_t(block.start) + block.bytes ? &block : nullptr;
}

Status copy_checked(char* to, bool to_device, const char* from, bool from_device, size_t bytes, Status otherwise) {
    if ((to_device && !covers(uint64_t(to), bytes)) || (from_device && !covers(uint64_t(from), bytes))) {
        count("range_errors");
        return otherwise;
    }
    std::memmove(to, from, bytes);
    return SUCCESS;
}

uint64_t sum_of(const char* bytes, size_t number) {
    uint64_t sum = 1469598103934665603u;
    for (size_t i = 0; i < number; i += 8) {
        uint64_t word = 0;
        std::memcpy(&word, bytes + i, std::min<size_t>(8, number - i));
        sum = (sum ^ word) * 1099511628211u;
    }
    return sum;
}

// The range is checked when the copy is asked for, and again when it runs: the memory may be gone by then.
Status copy(uint64_t to, bool to_device, uint64_t from, bool from_device, size_t bytes, Stream* stream, bool wait) {
    auto* target = reinterpret_cast<char*>(to);
    auto* source = reinterpret_cast<const char*>(from);
    if (!bytes) return SUCCESS;
    if ((to_device && !covers(to, bytes)) || (from_device && !covers(from, bytes))) {
        count("range_errors");
        return INVALID_VALUE;
    }
    if (!target || !source) return INVALID_VALUE;
    if (wait) {
        // A copy that waits runs in the default stream: streams made with the flag "non-blocking" are not waited for.
        if (forbidden_while_capturing()) return CAPTURE_IMPLICIT;
        if (Status status = run_context(current(), false)) return status;
        return copy_checked(target, to_device, source, from_device, bytes, ILLEGAL_ADDRESS);
    }
    if ((!to_device && !block_of(to)) || (!from_device && !block_of(from))) count("pageable_copies");
    if (!setting("defer") || is_recorded(stream)) {
        return put(stream, [=] { return copy_checked(target, to_device, source, from_device, bytes, ILLEGAL_ADDRESS); });
    }
    if (!to_device && setting("defer") == 2) std::memset(target, UNREAD_BYTE, bytes);
    const uint64_t before = from_device ? 0 : sum_of(source, bytes);
    return put(stream, [=] {
        if (!from_device && sum_of(source, bytes) != before) {
            count("changed_in_flight");
            complain("memory of the host was changed before a copy of " + std::to_string(bytes) + " bytes had read it");
        }
        return copy_checked(target, to_device, source, from_device, bytes, ILLEGAL_ADDRESS);
    });
}

Status fill(uint64_t to, unsigned value, int width, size_t number, Stream* stream) {
    if (!covers(to, number * size_t(width))) {
        count("range_errors");
        return INVALID_VALUE;
    }
    return put(stream, [=]() -> Status {
        if (!covers(to, number * size_t(width))) return ILLEGAL_ADDRESS;
        for (size_t i = 0; i < number; ++i) std::memcpy(reinterpret_cast<char*>(to) + i * size_t(width), &value, size_t(width));
        return SUCCESS;
    });
}

}  // namespace

bool covers(uint64_t pointer, size_t bytes, Context** owner) {
    const Block* block = block_of(pointer);
    if (!block || !block->device || pointer + bytes > uintptr_t(block->start) + block->bytes) return false;
    if (owner) *owner = block->context;
    return true;
}

void check_guards(Context* context) {
    if (driver().is_idle) return;
    for (const auto& [_, block] : driver().blocks) {
        if (block.context == context && !guards_hold(block)) {
            report_broken_guard(block);
            context->broken = ILLEGAL_ADDRESS;
        }
    }
}

void free_blocks_of(Context* context) {
    for (auto at = driver().blocks.begin(); at != driver().blocks.end();) {
        if (at->second.context != context) {
            ++at;
            continue;
        }
        count("leaked_blocks");
        give_back(at->second);
        at = driver().blocks.erase(at);
    }
}

EXPORT int cuMemGetInfo_v2(size_t* free, size_t* total) {
    ENTER(CONTEXT);
    int64_t used = 0;
    for (const auto& [_, block] : driver().blocks) {
        if (block.device && block.context->device == current()->device) used += int64_t(block.bytes);
    }
    *total = size_t(setting("memory"));
    *free = used < setting("memory") ? size_t(setting("memory") - used) : 0;
    return SUCCESS;
}

EXPORT int cuMemAlloc_v2(uint64_t* pointer, size_t bytes) {
    ENTER(CONTEXT);
    return allocate(reinterpret_cast<void**>(pointer), bytes, true);
}
EXPORT int cuMemFree_v2(uint64_t pointer) {
    ENTER(CONTEXT);
    return release(uintptr_t(pointer), true);
}
EXPORT int cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
    ENTER(CONTEXT);
    return allocate(pointer, bytes, false);
}
EXPORT int cuMemAllocHost_v2(void** pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }
EXPORT int cuMemFreeHost(void* pointer) {
    ENTER(CONTEXT);
    return release(uintptr_t(pointer), false);
}
EXPORT int cuMemGetAddressRange_v2(uint64_t* start, size_t* bytes, uint64_t pointer) {
    ENTER(CONTEXT);
    const Block* block = block_of(pointer);
    if (!block || !block->device) return NOT_FOUND;
    if (start) *start = uint64_t(block->start);
    if (bytes) *bytes = block->bytes;
    return SUCCESS;
}

EXPORT int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t bytes) {
    ENTER(CONTEXT);
    return copy(to, true, uint64_t(from), false, bytes, nullptr, true);
}
EXPORT int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t bytes) {
    ENTER(CONTEXT);
    return copy(uint64_t(to), false, from, true, bytes, nullptr, true);
}
EXPORT int cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) {
    ENTER(CONTEXT);
    return copy(to, true, from, true, bytes, nullptr, true);
}
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, Stream* stream) {
    ENTER(CONTEXT);
    return copy(to, true, uint64_t(from), false, bytes, stream, false);
}
EXPORT int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, Stream* stream) {
    ENTER(CONTEXT);
    return copy(uint64_t(to), false, from, true, bytes, stream, false);
}
EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Stream* stream) {
    ENTER(CONTEXT);
    return copy(to, true, from, true, bytes, stream, false);
}
EXPORT int cuMemsetD8Async(uint64_t to, unsigned char value, size_t number, Stream* stream) {
    ENTER(CONTEXT);
    return fill(to, value, 1, number, stream);
}
EXPORT int cuMemsetD16Async(uint64_t to, unsigned short value, size_t number, Stream* stream) {
    ENTER(CONTEXT);
    return fill(to, value, 2, number, stream);
}
EXPORT int cuMemsetD32Async(uint64_t to, unsigned value, size_t number, Stream* stream) {
    ENTER(CONTEXT);
    return fill(to, value, 4, number, stream);
}
EXPORT int cuMemsetD8_v2(uint64_t to, unsigned char value, size_t number) { return cuMemsetD8Async(to, value, number, nullptr); }
EXPORT int cuMemsetD16_v2(uint64_t to, unsigned short value, size_t number) { return cuMemsetD16Async(to, value, number, nullptr); }
EXPORT int cuMemsetD32_v2(uint64_t to, unsigned value, size_t number) { return cuMemsetD32Async(to, value, number, nullptr); }
