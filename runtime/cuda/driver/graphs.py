"""CUDA graphs: work on a stream, recorded once and replayed with one call.

PyCUDA has no graphs. cuda-bindings has them, and takes the handle of PyCUDA's stream.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any

from ...errors import ParameterError
from ...system.fork import ForkLock
from . import bindings, process
from .stream import Stream


class Graph(process.Owned):
    """A recording that can be replayed. It reads and writes the addresses that were recorded.

    It keeps the arrays of recorded copies alive; the caller keeps the device memory.

    Example:
        >>> graph = Graph.capture(stream, lambda: kernel((8, 1, 1), (256, 1, 1), [memory], 0, stream))  # doctest: +SKIP
        >>> graph.launch(stream)  # doctest: +SKIP
        >>> stream.synchronize()  # doctest: +SKIP
    """

    def __init__(self, stream: Stream, executable: _Executable) -> None:
        """Use `capture`."""
        super().__init__(stream.device, executable)
        self.device = stream.device

    @classmethod
    def capture(cls, stream: Stream, enqueue: Callable[[], None]) -> Graph:
        """Record what `enqueue` puts into the stream. Nothing of it runs.

        Args:
            enqueue: puts work into this stream, from this thread. It must not allocate, synchronise or ask for
                results. Run it once before, as some libraries allocate in their first run. Memory freed meanwhile is
                freed afterwards.

        Raises:
            DeviceError: the driver refuses the work. Exceptions of `enqueue` are passed on. Either way the stream can
                be used as before.
            MissingDependencyError: cuda-bindings is not installed.
        """
        cuda = bindings.load()
        before = stream.take_kept()
        try:
            with stream.device.active():
                graph = _recorded(cuda, stream, enqueue)
                try:
                    handle = bindings.check(cuda.cuGraphInstantiate(graph, 0), stream.device, "preparing a graph")
                finally:
                    cuda.cuGraphDestroy(graph)
            return cls(stream, _Executable(cuda, handle, stream.take_kept()))
        finally:
            stream.take_kept()
            stream.keep(before)

    def launch(self, stream: Stream) -> None:
        """Put the whole recording into a stream of the same device.

        Raises:
            DeviceError: it is closed, or the driver refuses it.
        """
        executable: _Executable = self.held()
        with self.device.active():
            stream.raw  # noqa: B018 a closed stream is an error of ours, and not a crash of the driver
            executable.last = stream
            done = executable.cuda.cuGraphLaunch(executable.handle, stream.handle)
            bindings.check(done, self.device, "launching a graph")

    def close(self) -> None:
        """Free the graph after its last launch has run. Closing it again does nothing."""
        if not self.is_free and not process.is_forked():
            executable: _Executable = self.held()
            executable.wait()
        self.free()

    def __str__(self) -> str:
        return f"{self.device}: graph"

    def __enter__(self) -> Graph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Executable:
    """The driver's executable graph; goes when this goes, which `Owned` does within the context."""

    def __init__(self, cuda: Any, handle: Any, kept: dict[int, object]) -> None:
        self.cuda = cuda
        self.handle = handle
        self.kept = kept
        self.last: Stream | None = None
        """Where it was launched last."""

    def wait(self) -> None:
        """The arrays must outlive the launch that uses them."""
        last, self.last = self.last, None
        if last is not None and not last.is_free:
            last.synchronize()

    def __del__(self) -> None:
        try:
            self.wait()
        finally:
            self.cuda.cuGraphExecDestroy(self.handle)


def _recorded(cuda: Any, stream: Stream, enqueue: Callable[[], None]) -> Any:
    """The graph of what `enqueue` puts into the stream; the stream has left its recording, come what may."""
    device = stream.device
    # Of this thread alone: what others allocate meanwhile is no business of this recording.
    mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    handle = cuda.CUstream(stream.raw.handle)

    def record() -> None:
        bindings.check(cuda.cuStreamBeginCapture(handle, mode), device, "recording a graph")
        try:
            enqueue()
        except BaseException:
            _, unfinished = cuda.cuStreamEndCapture(handle)
            if unfinished is not None and int(unfinished):  # 12.8 answers a null handle, later ones None
                cuda.cuGraphDestroy(unfinished)
            raise
        graphs.append(bindings.check(cuda.cuStreamEndCapture(handle), device, "recording a graph"))

    graphs: list[Any] = []
    process.without_frees(record)
    return graphs[0]


class GraphCache:
    """The graphs used last, by key; older ones are closed.

    The cache is thread-safe, but it closes a graph that it drops, even if another thread is about to launch it: give
    each launching thread its own cache, or hold a lock from `get` to `launch`.

    Example:
        >>> graphs = GraphCache(8)  # doctest: +SKIP
        >>> graphs.get("640x640", lambda: Graph.capture(stream, enqueue)).launch(stream)  # doctest: +SKIP
    """

    def __init__(self, capacity: int) -> None:
        """
        Args:
            capacity: how many graphs to keep, at least 1.
        """
        if capacity < 1:
            raise ParameterError(f"a cache of {capacity} graphs, expected 1 or more")
        self._capacity = capacity
        self._graphs: OrderedDict[Hashable, Graph] = OrderedDict()
        self._lock = ForkLock(threading.RLock)

    def __len__(self) -> int:
        return len(self._graphs)

    def get(self, key: Hashable, capture: Callable[[], Graph]) -> Graph:
        """The graph of this key, made by `capture` if there is none. The graph not used for longest is dropped.

        Exceptions of `capture` are passed on; the cache then stays as it was.
        """
        with self._lock:
            graph = self._graphs.get(key)
            if graph is None:
                graph = self._graphs[key] = capture()
            self._graphs.move_to_end(key)
            while len(self._graphs) > self._capacity:
                self._graphs.popitem(last=False)[1].close()
            return graph

    def drop(self, outdated: Callable[[Any], bool]) -> None:
        """Close the graphs whose key is `outdated`."""
        with self._lock:
            for key in [key for key in self._graphs if outdated(key)]:
                self._graphs.pop(key).close()

    def close(self) -> None:
        """Close all graphs. The cache can still be used."""
        with self._lock:
            while self._graphs:
                self._graphs.popitem()[1].close()
