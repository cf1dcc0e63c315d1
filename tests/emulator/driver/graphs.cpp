// Recording a stream into a graph, and replaying it.
#include "state.hpp"

EXPORT int cuStreamBeginCapture_v2(Stream* stream, int mode) {
    ENTER(CONTEXT);
    if (mode < 0 || mode > 2) return INVALID_VALUE;
    if (uintptr_t(stream) <= 2) return CAPTURE_UNSUPPORTED;  // the default stream cannot be recorded
    if (!driver().streams.count(stream) || stream->context != current()) return INVALID_HANDLE;
    if (stream->capture) return INVALID_VALUE;
    run_all(stream);
    stream->capture = std::make_unique<Capture>();
    stream->capture->mode = mode;
    stream->capture->thread = this_thread();
    count("captures");
    return SUCCESS;
}

EXPORT int cuStreamEndCapture(Stream* stream, Graph** graph) {
    ENTER(CONTEXT);
    *graph = nullptr;
    if (!driver().streams.count(stream)) return INVALID_HANDLE;
    if (!stream->capture) return CAPTURE_UNMATCHED;
    if (stream->capture->mode != 2 && stream->capture->thread != this_thread()) return CAPTURE_WRONG_THREAD;
    const std::unique_ptr<Capture> capture = std::move(stream->capture);
    if (!capture->valid) return CAPTURE_INVALIDATED;
    *graph = new Graph{std::move(capture->work)};
    driver().graphs.insert(*graph);
    count("graphs");
    return SUCCESS;
}

EXPORT int cuStreamIsCapturing(Stream* stream, int* status) {
    ENTER(CONTEXT);
    const bool known = driver().streams.count(stream) != 0;
    *status = !known || !stream->capture ? 0 : stream->capture->valid ? 1 : 2;
    return SUCCESS;
}

EXPORT int cuGraphInstantiateWithFlags(Executable** executable, Graph* graph, unsigned long long flags) {
    ENTER(CONTEXT);
    if (!driver().graphs.count(graph) || flags) return INVALID_VALUE;
    *executable = new Executable{graph->work};
    driver().executables.insert(*executable);
    count("executables");
    return SUCCESS;
}

EXPORT int cuGraphDestroy(Graph* graph) {
    ENTER(DRIVER);
    if (!driver().graphs.erase(graph)) {
        count("bad_frees");
        return INVALID_VALUE;
    }
    count("graphs", -1);
    delete graph;
    return SUCCESS;
}

EXPORT int cuGraphExecDestroy(Executable* executable) {
    ENTER(DRIVER);
    if (!driver().executables.erase(executable)) {
        count("bad_frees");
        return INVALID_VALUE;
    }
    count("executables", -1);
    delete executable;
    return SUCCESS;
}

EXPORT int cuGraphLaunch(Executable* executable, Stream* stream) {
    ENTER(CONTEXT);
    if (!driver().executables.count(executable)) return INVALID_VALUE;
    count("graph_launches");
    for (const Work& work : executable->work) {
        if (Status status = put(stream, work)) return status;
    }
    return SUCCESS;
}
