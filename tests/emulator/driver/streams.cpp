// Streams and events: in which order work runs, and when. Also recording into a graph.
#include "state.hpp"

#include <chrono>

namespace {

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

Stream* stream_of(Stream* handle) {
    // 1 and 2 are CUDA's names of the legacy and the per-thread default stream.
    if (uintptr_t(handle) <= 2) return &current()->own;
    return driver().streams.count(handle) ? handle : nullptr;
}

Status run_one(Stream* stream) {
    Work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    Context* context = stream->context;
    if (context->broken != SUCCESS) return context->broken;
    const Status status = work.run();
    if (status != SUCCESS) context->broken = status;
    return context->broken;
}

bool any_order() { return setting("defer") == 2; }

// 0 … below - 1. The setting is the state of the generator.
uint64_t drawn(uint64_t below) {
    uint64_t state = uint64_t(setting("seed")) * 6364136223846793005u + 1442695040888963407u;
    driver().settings["seed"] = int64_t(state);
    return (state >> 33) % below;
}

// One piece of work of any stream whose next piece is ready; false: there is none.
bool run_any() {
    std::vector<Stream*> ready;
    const auto consider = [&](Stream* stream) {
        if (!stream->queue.empty() && (!stream->queue.front().ready || stream->queue.front().ready())) ready.push_back(stream);
    };
    for (Stream* stream : driver().streams) consider(stream);
    for (Context* context : driver().contexts) consider(&context->own);
    if (ready.empty()) return false;
    run_one(ready[drawn(ready.size())]);
    return true;
}

// Whether `done`, after as much work of all streams as that takes.
template <class Done>
bool run_in_any_order(Done done) {
    while (!done()) {
        if (!run_any()) return false;
    }
    return true;
}

Status run_until(const Event* event, int64_t recorded) {
    if (any_order()) {
        run_in_any_order([&] { return event->reached >= recorded || !event->stream || event->stream->queue.empty(); });
        return event->context->broken;
    }
    while (event->reached < recorded && event->stream && !event->stream->queue.empty()) {
        if (Status status = run_one(event->stream)) return status;
    }
    return SUCCESS;
}

}  // namespace

bool is_recorded(Stream* handle) {
    Stream* stream = stream_of(handle);
    return stream && stream->capture;
}

bool forbidden_while_capturing() {
    bool found = false;
    for (Stream* stream : driver().streams) {
        Capture* capture = stream->capture.get();
        // Mode 0 forbids it in every thread, 1 in the thread that records, 2 nowhere.
        if (capture && (capture->mode == 0 || (capture->mode == 1 && capture->thread == this_thread()))) {
            capture->valid = false;
            found = true;
        }
    }
    return found;
}

Status put(Stream* handle, Work work) {
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->context != current()) return INVALID_HANDLE;
    if (stream->capture) {
        if (!stream->capture->valid) return CAPTURE_INVALIDATED;
        stream->capture->work.push_back(std::move(work));
        return SUCCESS;
    }
    if (stream == &current()->own && forbidden_while_capturing()) return CAPTURE_IMPLICIT;
    if (driver().is_idle && !work.is_event) return SUCCESS;
    count("work");
    stream->queue.push_back(std::move(work));
    while (any_order() && drawn(2) && run_any()) {
    }
    return setting("defer") ? SUCCESS : run_all(stream);
}

Status run_all(Stream* stream) {
    if (any_order()) {
        run_in_any_order([&] { return stream->queue.empty() || stream->context->broken != SUCCESS; });
        if (stream->context->broken != SUCCESS) stream->queue.clear();
        return stream->context->broken;
    }
    while (!stream->queue.empty()) {
        if (Status status = run_one(stream)) {
            stream->queue.clear();
            return status;
        }
    }
    return stream->context->broken;
}

Status run_context(Context* context, bool non_blocking_too) {
    Status status = run_all(&context->own);
    for (Stream* stream : std::set<Stream*>(driver().streams)) {
        if (stream->context == context && (non_blocking_too || !(stream->flags & 1))) {
            if (Status one = run_all(stream)) status = one;
        }
    }
    check_guards(context);
    return status != SUCCESS ? status : context->broken;
}

void destroy_streams_of(Context* context) {
    for (Stream* stream : std::set<Stream*>(driver().streams)) {
        if (stream->context != context) continue;
        driver().streams.erase(stream);
        count("streams", -1);
        delete stream;
    }
    count("events", -int64_t(std::erase_if(driver().events, [&](auto& one) { return one.first->context == context; })));
}

EXPORT int cuStreamCreate(Stream** stream, unsigned flags) {
    ENTER(CONTEXT);
    if (flags > 1) return INVALID_VALUE;
    *stream = new Stream{current(), flags};
    driver().streams.insert(*stream);
    count("streams");
    return SUCCESS;
}

EXPORT int cuStreamDestroy_v2(Stream* stream) {
    ENTER(CONTEXT);
    if (!driver().streams.count(stream)) {
        count("bad_frees");
        return INVALID_HANDLE;
    }
    run_all(stream);
    for (auto& [event, _] : driver().events) {
        if (event->stream == stream) event->stream = nullptr;
    }
    driver().streams.erase(stream);
    count("streams", -1);
    delete stream;
    return SUCCESS;
}

EXPORT int cuStreamSynchronize(Stream* handle) {
    ENTER(CONTEXT);
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) {
        stream->capture->valid = false;
        return CAPTURE_UNSUPPORTED;
    }
    if (stream == &current()->own) {
        if (forbidden_while_capturing()) return CAPTURE_IMPLICIT;
        return run_context(current(), false);
    }
    const Status status = run_all(stream);
    check_guards(stream->context);
    return status != SUCCESS ? status : stream->context->broken;
}

EXPORT int cuStreamQuery(Stream* handle) {
    ENTER(CONTEXT);
    Stream* stream = stream_of(handle);
    if (!stream) return INVALID_HANDLE;
    if (stream->capture) {
        stream->capture->valid = false;
        return CAPTURE_UNSUPPORTED;
    }
    if (stream->queue.empty()) return stream->context->broken;
    const Status status = any_order() ? (run_any(), stream->context->broken) : run_one(stream);  // whoever asks again and again sees it end
    return status != SUCCESS ? status : NOT_READY;
}

EXPORT int cuStreamWaitEvent(Stream* handle, Event* event, unsigned) {
    ENTER(CONTEXT);
    if (!driver().events.count(event)) return INVALID_HANDLE;
    // An event may be destroyed as soon as this has returned.
    const auto kept = driver().events[event];
    const int64_t recorded = event->recorded;
    return put(handle, Work([=] { return any_order() ? SUCCESS : run_until(kept.get(), recorded); },
                            [=] { return kept->reached >= recorded || !kept->stream; }));
}

EXPORT int cuEventCreate(Event** event, unsigned flags) {
    ENTER(CONTEXT);
    *event = new Event{current(), flags};
    driver().events[*event] = std::shared_ptr<Event>(*event);
    count("events");
    return SUCCESS;
}

EXPORT int cuEventDestroy_v2(Event* event) {
    ENTER(CONTEXT);
    if (!driver().events.count(event)) {
        count("bad_frees");
        return INVALID_HANDLE;
    }
    driver().events.erase(event);
    count("events", -1);
    return SUCCESS;
}

EXPORT int cuEventRecord(Event* event, Stream* handle) {
    ENTER(CONTEXT);
    Stream* stream = stream_of(handle);
    if (!stream || !driver().events.count(event)) return INVALID_HANDLE;
    if (event->context != stream->context) return INVALID_HANDLE;
    event->captured = stream->capture != nullptr;
    event->stream = stream;
    const auto reached = [kept = driver().events[event], recorded = ++event->recorded] {
        kept->reached = recorded;
        kept->at_ms = now_ms();
        return SUCCESS;
    };
    return put(handle, Work(reached, [] { return true; }));
}

EXPORT int cuEventQuery(Event* event) {
    ENTER(CONTEXT);
    if (!driver().events.count(event)) return INVALID_HANDLE;
    if (event->captured) return CAPTURED_EVENT;
    if (event->reached == event->recorded) return SUCCESS;
    const Status status = any_order() ? (run_any(), event->context->broken) : run_one(event->stream);
    return status != SUCCESS ? status : NOT_READY;
}

EXPORT int cuEventSynchronize(Event* event) {
    ENTER(CONTEXT);
    if (!driver().events.count(event)) return INVALID_HANDLE;
    if (event->captured) return CAPTURED_EVENT;
    return run_until(event, event->recorded);
}

EXPORT int cuEventElapsedTime_v2(float* ms, Event* start, Event* end) {
    ENTER(CONTEXT);
    if (!driver().events.count(start) || !driver().events.count(end)) return INVALID_HANDLE;
    if ((start->flags | end->flags) & 2 || !start->recorded || !end->recorded) return INVALID_HANDLE;
    if (start->reached < start->recorded || end->reached < end->recorded) return NOT_READY;
    *ms = float(end->at_ms - start->at_ms);
    return SUCCESS;
}
EXPORT int cuEventElapsedTime(float* ms, Event* start, Event* end) { return cuEventElapsedTime_v2(ms, start, end); }
