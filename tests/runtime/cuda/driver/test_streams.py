"""Memory, streams and events: bytes, order, who frees what and when."""

from __future__ import annotations

import gc
import itertools
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.driver.stream import Stream
from fastsam_deploy.runtime.errors import DeviceError, ParameterError
from tests.emulator.driver.emulated import (  # noqa: F401
    TINY_PTX,
    Driver,
    Emulated,
    cuda_fixture,
    device_fixture,
    emulated_fixture,
    late_fixture,
    stream_fixture,
)

pytestmark = pytest.mark.gpu


def test_bytes_go_there_and_back(device: Device, stream: Stream):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, 100_003, dtype=np.uint8)
    pinned, back = device.pinned(data.nbytes), device.pinned(data.nbytes)
    one, two = device.memory(data.nbytes), device.memory(data.nbytes)
    pinned.array[:] = data
    back.array[:] = 0
    with device.active():
        stream.copy_in(one, pinned.array)
        stream.fill(two, 7, data.nbytes)
        stream.copy(two.pointer + 3, one.pointer + 3, 5_000)
        stream.copy_out(back.array, two)
    stream.synchronize()
    expected = np.full_like(data, 7)
    expected[3:5_003] = data[3:5_003]
    np.testing.assert_array_equal(back.array, expected)


def test_pageable_and_empty_arrays(device: Device, stream: Stream):
    data = np.arange(6, dtype=np.float64).reshape(2, 3)
    memory, back = device.memory(data.nbytes), np.zeros_like(data)
    nothing = device.memory(0)
    stream.copy_in(memory, data)
    stream.copy_in(nothing, np.empty((0, 3)))
    stream.copy_out(np.empty(0), nothing)
    stream.fill(nothing, 1, 0)
    stream.copy(nothing, nothing, 0)
    stream.copy_out(back, memory)
    stream.synchronize()
    np.testing.assert_array_equal(back, data)
    assert device.pinned(0).array.shape == (0,)


def test_copies_are_checked(device: Device, stream: Stream):
    memory = device.memory(100)
    with pytest.raises(ParameterError, match="101 bytes for a memory of 100"):
        stream.copy_in(memory, np.zeros(101, np.uint8))
    with pytest.raises(ParameterError, match="104 bytes for a memory of 100"):
        stream.copy_out(np.zeros(13), memory)
    with pytest.raises(ParameterError, match="for a memory of 100"):
        stream.fill(memory, 0, 101)
    with pytest.raises(ParameterError, match="C-contiguous"):
        stream.copy_in(memory, np.zeros((4, 4), np.uint8)[:, ::2])
    with pytest.raises(ParameterError, match="0 or more"):
        device.memory(-1)


def test_work_runs_after_the_call_and_before_synchronize_returns(late: Emulated, device: Device, stream: Stream):
    memory, pinned = device.memory(8), device.pinned(8)
    pinned.array[:] = 1
    stream.fill(memory, 9, 8)
    stream.copy_out(pinned.array, memory)
    assert pinned.array.tolist() == [1] * 8 and not stream.is_done()
    stream.synchronize()
    assert pinned.array.tolist() == [9] * 8 and stream.is_done()


def test_an_event_orders_two_streams(late: Emulated, device: Device, stream: Stream):
    other = device.stream()
    memory, pinned = device.memory(8), device.pinned(8)
    stream.fill(memory, 5, 8)
    other.wait(stream.record(timing=False))
    other.copy_out(pinned.array, memory)
    other.synchronize()
    assert pinned.array.tolist() == [5] * 8
    other.close()


def test_an_event_tells_when_and_how_long(device: Device, stream: Stream):
    memory = device.memory(1 << 20)
    start = stream.record()
    for byte in range(20):
        stream.fill(memory, byte, memory.nbytes)
    end = stream.record()
    end.synchronize()
    assert start.is_done() and end.is_done()
    assert 0 < end.milliseconds_since(start) < 10_000


def test_arrays_live_until_their_copy_has_run(late: Emulated, device: Device, stream: Stream):
    memory, back, array = device.memory(1000), device.pinned(1000), np.full(1000, 3, np.uint8)
    kept = weakref.ref(array)
    stream.copy_in(memory, array)
    del array
    stream.copy_out(back.array, memory)
    assert kept() is not None
    stream.synchronize()
    assert set(back.array.tolist()) == {3}
    assert kept() is None


def test_running_out_of_device_memory(emulated: Emulated, device: Device):
    emulated.set("memory", 10_000)
    kept = device.memory(6_000)
    with pytest.raises(DeviceError, match=r"needed 5000 bytes of device memory; free on the device 4000 of \d+ bytes"):
        device.memory(5_000)
    kept.free()
    device.memory(5_000).free()


def test_running_out_of_host_memory(emulated: Emulated, device: Device):
    emulated.set("memory", 10_000)
    with pytest.raises(DeviceError, match="out of memory: needed 20000 bytes of page-locked host memory"):
        device.pinned(20_000)


def test_what_is_freed_is_freed_once_and_cannot_be_used(device: Device, stream: Stream):
    memory, pinned, module = device.memory(10), device.pinned(10), device.module(TINY_PTX)
    other = device.stream()
    function = module.function("store")
    for one in (memory, pinned, module):
        one.free()
        one.free()
    other.close()
    other.close()
    array = np.zeros(1, np.uint8)
    for use in (
        lambda: memory.pointer,
        lambda: stream.copy_in(memory, array),
        lambda: pinned.array,
        lambda: module.function("store"),
        lambda: function((1, 1, 1), (1, 1, 1), [], 0, stream),
        lambda: other.fill(1, 0, 1),
        other.record,
        other.synchronize,
    ):
        with pytest.raises(DeviceError, match=r"it was freed; expected one in use"):
            use()


def test_views_keep_page_locked_memory_alive(cuda: Driver, device: Device):
    pinned = device.pinned(40)
    view = pinned.array.view(np.float32)[2:5]
    view[:] = 1.5
    pinned.free()
    del pinned
    gc.collect()
    assert view.tolist() == [1.5] * 3
    if isinstance(cuda, Emulated):
        assert cuda.counter("pinned_blocks") == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::3])
@pytest.mark.parametrize("how", ["free", "forget", "free in a thread", "forget in a thread"])
def test_everything_goes_in_any_order_and_thread(
    cuda: Driver, capfd: pytest.CaptureFixture[str], order: tuple[int, ...], how: str
):
    device = Device.open(0)
    stream = device.stream()
    owned = [device.memory(1000), device.pinned(1000), device.module(TINY_PTX), stream]
    owned[2].function("echo")
    stream.fill(owned[0], 1, 1000)
    stream.record()
    stream.synchronize()
    del stream

    def let_go() -> None:
        for number in order:
            if how.startswith("free"):
                owned[number].free()
            owned[number] = None

    if how.endswith("thread"):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(let_go).result()
    else:
        let_go()
    assert capfd.readouterr() == ("", "")


def test_a_thousand_times_without_growth(cuda: Driver, device: Device, stream: Stream):
    before = device.memory_free()
    for number in range(1000):
        memory, pinned = device.memory(1 + number * 7), device.pinned(1 + number * 7)
        stream.copy_in(memory, pinned.array)
        stream.synchronize()
        if number % 2:
            memory.free()
    del memory, pinned
    # A real driver keeps a few blocks of 2 MB, and others use the GPU too.
    assert device.memory_free() >= before - (0 if cuda.emulated else 64 << 20)
