"""The end of a process, and children of one that uses CUDA."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator.driver.emulated import OPEN, TINY_PTX, Driver, Emulated, cuda_fixture, emulated_fixture, run_python  # noqa: F401

pytestmark = pytest.mark.gpu


def test_a_process_ends_while_a_thread_is_at_work(cuda: Driver, tmp_path: Path):
    code = (
        OPEN
        + """
import threading, time
device = Device.open()
stream, memory, begun = device.stream(), device.memory(8), threading.Event()
def work():
    with device.active():
        begun.set()
        time.sleep(60)
threading.Thread(target=work, daemon=True).start()
begun.wait()
stream.fill(memory, 1, 8)
"""
    )
    ended = run_python(code, tmp_path)
    assert (ended.code, ended.out, ended.err) == (0, "", "")


FORK = (
    OPEN
    + """
import gc, os
import numpy as np
def told(work):
    try:
        work()
    except FastSamError as error:
        print(type(error).__name__, error, flush=True)
    else:
        print("fine", flush=True)
def child_of(work):
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0, "the child crashed"
    else:
        work()
        gc.collect()
        sys.exit(0)
"""
)


@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "del device", "globals().clear()"])
def test_a_process_ends_without_noise_and_leaves_nothing(emulated: Emulated, tmp_path: Path, end: str):
    code = (
        OPEN
        + f"""
import numpy as np, threading
from pathlib import Path
from fastsam_deploy.runtime.cuda.driver.graphs import Graph
made = []
def make():
    device = Device.open(len(made) % 2)
    stream, memory, pinned = device.stream(), device.memory(4), device.pinned(4)
    store = device.module(Path({str(TINY_PTX)!r})).function("store")
    def enqueue():
        store((1, 1, 1), (1, 1, 1), [memory, np.int64(0), np.int32(1)], 0, stream)
        stream.copy_out(pinned.array, memory)
    graph = Graph.capture(stream, enqueue)
    graph.launch(stream)
    cycle = [stream.record(), pinned.array.view(np.int32)]
    cycle.append(cycle)
    made.append((device, stream, memory, pinned, store, graph, cycle))
make()
thread = threading.Thread(target=make)
thread.start()
thread.join()
device = made[0][0]
with device.active():
    {end}
"""
    )
    ended = run_python(code, tmp_path)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    alive = {
        name: number for name, number in ended.counters.items() if number and name in (*emulated.living(), "bad_frees")
    }
    assert (alive, ended.counters["graph_launches"]) == ({}, 2)


def test_a_child_forked_after_cuda_gets_an_error_and_no_crash(cuda: Driver, tmp_path: Path):
    code = (
        FORK
        + """
device = Device.open()
stream, memory, pinned = device.stream(), device.memory(8), device.pinned(8)
pinned.array[:] = 3
def child():
    global stream, memory, pinned
    told(Device.open)
    told(lambda: device.active().__enter__())
    told(lambda: device.memory(8))
    told(lambda: stream.copy_in(memory, pinned.array))
    told(stream.synchronize)
    stream.close()
    memory.free()
    del stream, memory, pinned
child_of(child)
stream.copy_in(memory, pinned.array)
told(stream.synchronize)
"""
    )
    ended = run_python(code, tmp_path)
    *child, parent = ended.out.splitlines()
    assert len(child) == 5 and all("before this process was forked" in line for line in child), ended
    assert all(line.startswith("DeviceError") and "spawn" in line for line in child)
    assert (parent, ended.err, ended.code) == ("fine", "", 0)


def test_a_fork_while_a_context_is_current(cuda: Driver, tmp_path: Path):
    code = (
        FORK
        + """
device = Device.open()
memory = device.memory(8)
with device.active(), device.active():
    child_of(lambda: told(device.stream))
told(device.stream)
"""
    )
    ended = run_python(code, tmp_path)
    child, parent = ended.out.splitlines()
    assert "before this process was forked" in child
    assert (parent, ended.err, ended.code) == ("fine", "", 0)


def test_a_worker_that_forks_before_cuda_is_used_may_use_it(cuda: Driver, tmp_path: Path):
    code = (
        FORK
        + """
child_of(lambda: told(lambda: Device.open().memory(8).free()))
told(lambda: Device.open().memory(8).free())
"""
    )
    ended = run_python(code, tmp_path)
    assert (ended.out, ended.err, ended.code) == ("fine\nfine\n", "", 0)


def test_a_fork_in_the_midst_of_opening_in_another_thread(emulated: Emulated, tmp_path: Path):
    code = (
        FORK
        + """
import threading
from fastsam_deploy.runtime.cuda.driver import process
lock = process.lock()
with lock:
    child_of(lambda: told(Device.open))
told(Device.open)
"""
    )
    ended = run_python(code, tmp_path)
    assert (ended.out, ended.code) == ("fine\nfine\n", 0), ended
