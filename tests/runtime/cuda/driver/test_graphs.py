"""CUDA graphs: what is recorded, replayed, kept, and what is left when recording fails."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.driver.graphs import Graph, GraphCache
from fastsam_deploy.runtime.errors import DeviceError, MissingDependencyError, ParameterError
from tests.emulator.driver.emulated import TINY_PTX, Driver, Emulated, cuda_fixture, emulated_fixture  # noqa: F401

pytestmark = pytest.mark.gpu
N = 1000


class Work:
    """y = 2 x + 1 on the device: a copy in, a fill, a kernel, a copy out."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.stream = device.stream()
        self.pages = device.pinned(8 * N)
        self.x, self.y = self.pages.array.view(np.float32).reshape(2, N)
        self.on_device = device.memory(4 * N), device.memory(4 * N)
        self.ones = np.ones(N, np.float32)
        self.module = device.module(TINY_PTX)
        self.add = self.module.function("scale_add")

    def close(self) -> None:
        self.stream.close()
        for owned in (*self.on_device, self.pages, self.module):
            owned.free()
        del self.x, self.y

    def enqueue(self) -> None:
        x, y = self.on_device
        self.stream.copy_in(x, self.x)
        self.stream.copy_in(y, self.ones)
        self.add((-(-N // 256), 1, 1), (256, 1, 1), [x, y, np.float32(2), np.int32(N)], 0, self.stream)
        self.stream.copy_out(self.y, y)

    def check(self, run: Callable[[], None], seed: int) -> None:
        """Whether it computes what it should, on numbers it has not seen."""
        self.x[:] = np.random.default_rng(seed).integers(-1000, 1000, N)
        self.y[:] = 0
        run()
        self.stream.synchronize()
        np.testing.assert_array_equal(self.y, 2 * self.x + 1)


@pytest.fixture
def work(cuda: Driver) -> Iterator[Work]:
    made = Work(Device.open(0))
    yield made
    made.close()


@pytest.fixture(params=[0, 1], ids=["at once", "late"])
def either(request: pytest.FixtureRequest, cuda: Driver) -> Iterator[None]:
    """Both tempers of the emulated driver."""
    if isinstance(cuda, Emulated):
        cuda.set("defer", request.param)
    elif request.param:
        pytest.skip("a real GPU has a temper of its own")
    yield
    if isinstance(cuda, Emulated):
        cuda.set("defer", 0)


def test_a_graph_does_what_was_recorded(either: None, work: Work):
    work.check(work.enqueue, 0)
    with Graph.capture(work.stream, work.enqueue) as graph:
        for seed in range(1, 5):
            work.check(lambda: graph.launch(work.stream), seed)
        work.check(work.enqueue, 9)


def test_recording_runs_nothing(either: None, work: Work):
    work.x[:], work.y[:] = 1, 0
    graph = Graph.capture(work.stream, work.enqueue)
    work.stream.synchronize()
    assert not work.y.any()
    graph.close()


def test_a_graph_runs_in_another_stream_and_thread(work: Work):
    other = work.device.stream()
    with Graph.capture(work.stream, work.enqueue) as graph, ThreadPoolExecutor(1) as pool:

        def run() -> None:
            graph.launch(other)
            other.synchronize()

        work.check(lambda: pool.submit(run).result(), 1)
    other.close()


def test_a_graph_keeps_what_it_copies_alive(either: None, work: Work):
    memory, back = work.device.memory(N), work.device.pinned(N)
    sources = [np.full(N, 5, np.uint8)]
    source = weakref.ref(sources[0])

    def enqueue() -> None:
        work.stream.copy_in(memory, sources.pop())  # nobody else has it
        work.stream.copy_out(back.array, memory)

    graph = Graph.capture(work.stream, enqueue)
    work.stream.synchronize()
    assert source() is not None
    graph.launch(work.stream)
    work.stream.synchronize()
    assert set(back.array.tolist()) == {5}
    graph.close()
    assert source() is None


def test_recording_leaves_the_arrays_of_work_that_runs(work: Work):
    memory, array = work.device.memory(N), np.zeros(N, np.uint8)
    kept = weakref.ref(array)
    work.stream.copy_in(memory, array)
    del array
    with Graph.capture(work.stream, work.enqueue):
        assert kept() is not None
    work.stream.synchronize()
    assert kept() is None


def test_closing(either: None, work: Work):
    graph = Graph.capture(work.stream, work.enqueue)
    work.x[:], work.y[:] = 3, 0
    graph.launch(work.stream)
    graph.close()  # waits
    assert set(work.y.tolist()) == {7}
    graph.close()
    with pytest.raises(DeviceError, match="graph: it was freed"):
        graph.launch(work.stream)


def test_launching_into_a_closed_stream(work: Work):
    other = work.device.stream()
    other.close()
    with Graph.capture(work.stream, work.enqueue) as graph, pytest.raises(DeviceError, match="stream: it was freed"):
        graph.launch(other)


def _allocate(work: Work) -> None:
    work.device.memory(10)


def _lock_pages(work: Work) -> None:
    work.device.pinned(10)


def _wait(work: Work) -> None:
    work.stream.synchronize()


def _ask(work: Work) -> None:
    work.stream.is_done()


def _catch_and_go_on(work: Work) -> None:
    with pytest.raises(DeviceError):
        work.stream.synchronize()


@pytest.mark.parametrize("wrong", [_allocate, _lock_pages, _wait, _ask, _catch_and_go_on])
def test_what_cannot_be_recorded_leaves_the_stream_usable(
    cuda: Driver, either: None, work: Work, wrong: Callable[[Work], None]
):
    if wrong is _lock_pages and not cuda.emulated:
        pytest.skip("whether page-locked memory may be allocated while recording is not documented; ours refuses it")

    def enqueue() -> None:
        work.enqueue()
        wrong(work)
        if wrong is not _catch_and_go_on:
            pytest.fail("the driver should have refused it")

    with pytest.raises(DeviceError, match=r"cuda:0 .* failed: .*(captur|record)"):
        Graph.capture(work.stream, enqueue)
    work.check(work.enqueue, 0)
    with Graph.capture(work.stream, work.enqueue) as graph:
        work.check(lambda: graph.launch(work.stream), 1)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, DeviceError])
def test_an_error_of_the_callers_own_is_passed_on(either: None, work: Work, error: type[BaseException]):
    def enqueue() -> None:
        work.enqueue()
        raise error("mine")

    with pytest.raises(error, match=r"^mine$"):
        Graph.capture(work.stream, enqueue)
    work.check(work.enqueue, 0)


def test_a_recording_within_a_recording(emulated: Emulated, work: Work):
    memory = work.device.memory(10)

    def enqueue() -> None:
        with pytest.raises(DeviceError, match="recording a graph failed"):
            Graph.capture(work.stream, work.enqueue)
        alive = emulated.living()
        memory.free()  # still put off
        assert emulated.living() == alive
        work.enqueue()

    with Graph.capture(work.stream, enqueue) as graph:
        work.check(lambda: graph.launch(work.stream), 1)
    work.check(work.enqueue, 0)


def test_what_is_freed_while_recording_goes_afterwards(cuda: Driver, work: Work):
    explicit, forgotten = work.device.memory(10), [work.device.memory(10), work.device.pinned(10)]
    forgotten.append(forgotten)  # only the garbage collector finds these
    alive = cuda.living()

    def enqueue() -> None:
        explicit.free()
        forgotten.clear()
        gc.collect()
        assert cuda.living() == alive
        work.enqueue()

    with Graph.capture(work.stream, enqueue) as graph:
        if isinstance(cuda, Emulated):
            assert alive["device_blocks"] - cuda.living()["device_blocks"] == 2
            assert alive["pinned_blocks"] - cuda.living()["pinned_blocks"] == 1
        work.check(lambda: graph.launch(work.stream), 0)


def test_other_threads_may_do_what_they_like_meanwhile(work: Work):
    def other() -> None:
        memory, stream = work.device.memory(100), work.device.stream()
        stream.fill(memory, 1, 100)
        stream.close()
        memory.free()

    def enqueue() -> None:
        work.enqueue()
        pool.submit(other).result()

    with ThreadPoolExecutor(1) as pool, Graph.capture(work.stream, enqueue) as graph:
        work.check(lambda: graph.launch(work.stream), 0)


def test_without_cuda_bindings_there_is_the_line_to_run(work: Work, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'fastsam-deploy\[cuda\]'"):
        Graph.capture(work.stream, work.enqueue)


def test_a_cache_keeps_the_last_used(cuda: Driver, work: Work):
    made: list[str] = []

    def capture_for(key: str) -> Callable[[], Graph]:
        def capture() -> Graph:
            made.append(key)
            return Graph.capture(work.stream, work.enqueue)

        return capture

    cache = GraphCache(2)
    first = cache.get("a", capture_for("a"))
    second = cache.get("b", capture_for("b"))
    assert cache.get("a", capture_for("a")) is first
    cache.get("c", capture_for("c"))  # "b" goes: "a" was used after it
    assert (second.is_free, first.is_free, len(cache), made) == (True, False, 2, ["a", "b", "c"])
    if isinstance(cuda, Emulated):
        assert cuda.counter("executables") == 2
    assert cache.get("b", capture_for("b")) is not second
    assert first.is_free and made == ["a", "b", "c", "b"]
    work.check(lambda: cache.get("b", capture_for("b")).launch(work.stream), 0)
    cache.close()
    cache.close()
    assert len(cache) == 0
    cache.get("a", capture_for("a"))
    cache.close()


def test_a_failed_capture_is_not_kept(work: Work):
    cache = GraphCache(1)

    def fail() -> Graph:
        raise DeviceError("mine")

    kept = cache.get("a", lambda: Graph.capture(work.stream, work.enqueue))
    with pytest.raises(DeviceError, match="mine"):
        cache.get("b", fail)
    assert not kept.is_free
    assert cache.get("a", fail) is kept
    cache.close()


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_cache_for_nothing_is_refused(capacity: int):
    with pytest.raises(ParameterError, match="expected 1 or more"):
        GraphCache(capacity)


def test_streams_of_two_devices_do_not_mix(emulated: Emulated, work: Work):
    other = Device.open(1).stream()
    with (
        Graph.capture(work.stream, work.enqueue) as graph,
        pytest.raises(DeviceError, match="launching a graph failed"),
    ):
        graph.launch(other)
    other.close()
