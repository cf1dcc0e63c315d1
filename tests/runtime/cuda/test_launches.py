"""Modules and launches of kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.driver.stream import Stream
from fastsam_deploy.runtime.errors import DeviceError
from tests.emulator.driver.emulated import (  # noqa: F401
    OPEN,
    TINY_PTX,
    Emulated,
    cuda_fixture,
    device_fixture,
    emulated_fixture,
    run_python,
    stream_fixture,
)

pytestmark = pytest.mark.gpu


def test_the_ptx_of_the_small_kernels_is_made_of_their_source():
    from tests.emulator.driver.make_tiny_ptx import outdated

    assert outdated() == []


def test_memory_of_another_device_is_refused(emulated: Emulated):
    first, second = Device.open(0), Device.open(1)
    stream, memory = second.stream(), first.memory(4)
    store = second.module(TINY_PTX).function("store")
    with pytest.raises(DeviceError, match=r"cuda:0 .*launching store"), first.active():
        first.call(
            "launching store", store._module.raw_function("store"), grid=(1, 1), block=(1, 1, 1), stream=stream.raw
        )
    stream.close()
    memory.free()


def test_a_kernel_gets_its_arguments(device: Device, stream: Stream):
    module = device.module(TINY_PTX.read_bytes())
    out, back = device.memory(56), np.empty(7, np.int64)
    args = [
        np.int8(-3),
        np.float64(-1e15),
        np.int16(-300),
        np.int64(-(1 << 60)),
        np.int32(-70_000),
        np.uintp(out.pointer),
    ]
    module.function("echo")((5, 4, 3), (2, 3, 4), args, 0, stream)
    stream.copy_out(back, out)
    stream.synchronize()
    assert back.tolist() == [-3, -(10**15), -300, -(1 << 60), -70_000, 50_403, 20_304]


@pytest.mark.parametrize(
    ("grid", "block", "shared", "change"),
    [
        pytest.param((0, 1, 1), (1, 1, 1), 0, None, id="no blocks"),
        pytest.param((1, 1, 1), (1025, 1, 1), 0, None, id="too many threads"),
        pytest.param((1, 65536, 1), (1, 1, 1), 0, None, id="too many blocks in y"),
        pytest.param((1, 1, 1), (1, 1, 1), 1 << 20, None, id="too much shared memory"),
        pytest.param((1, 1, 1), (1, 1, 1), 0, list.pop, id="an argument is missing"),
        pytest.param((1, 1, 1), (1, 1, 1), 0, lambda args: args.append(np.int64(0)), id="one too many"),
    ],
)
def test_a_launch_that_the_driver_refuses(
    emulated: Emulated, device: Device, stream: Stream, grid: tuple, block: tuple, shared: int, change: Callable | None
):
    memory = device.memory(8)
    args = [memory, np.int64(0), np.int32(1)]
    if change:
        change(args)
    with pytest.raises(DeviceError, match=r"cuda:0 .*(launching store \(grid|allowing store).*failed: .*invalid"):
        device.module(TINY_PTX).function("store")(grid, block, args, shared, stream)


def test_more_shared_memory_is_asked_for(device: Device, stream: Stream):
    memory = device.memory(8)
    store = device.module(TINY_PTX).function("store")
    store((1, 1, 1), (1, 1, 1), [memory, np.int64(0), np.int32(1)], 60 * 1024, stream)
    stream.synchronize()


@pytest.mark.parametrize("argument", [3, 2.5, True, "x", np.zeros(3), None])
def test_an_argument_without_a_size_is_a_bug(device: Device, stream: Stream, argument: object):
    with pytest.raises(TypeError, match="expected a NumPy number or DeviceMemory"):
        device.module(TINY_PTX).function("store")((1, 1, 1), (1, 1, 1), [argument], 0, stream)


def test_modules_that_cannot_be_had(device: Device, tmp_path: Path):
    with pytest.raises(DeviceError, match=r"looking for the kernel 'absent' in tiny\.ptx failed"):
        device.module(TINY_PTX).function("absent")
    with pytest.raises(DeviceError, match="compiling PTX failed"):
        device.module(b"this is not PTX")
    with pytest.raises(DeviceError, match=r"absent.ptx: .*expected a file with PTX"):
        device.module(tmp_path / "absent.ptx")


def test_a_kernel_that_goes_wrong_is_told_once_it_is_waited_for(emulated: Emulated, tmp_path: Path):
    code = (
        OPEN
        + f"""
import numpy as np
from pathlib import Path
device = Device.open()
stream, memory = device.stream(), device.memory(4)
store = device.module(Path({str(TINY_PTX)!r})).function("store")
store((1, 1, 1), (1, 1, 1), [memory, np.int64(0), np.int32(1)], 0, stream)
for use in (stream.synchronize, device.memory_free):
    try:
        use()
    except FastSamError as error:
        print(error)
"""
    )
    ended = run_python(code, tmp_path, {"launch_error": 719, "defer": 1})
    first, second = ended.out.splitlines()
    assert "running what was enqueued failed" in first and "start it again" in first
    assert "asking for its free memory failed" in second


def test_the_emulated_driver_sees_a_kernel_that_writes_outside(emulated: Emulated, tmp_path: Path):
    code = (
        OPEN
        + f"""
import numpy as np
from pathlib import Path
device = Device.open()
stream, memory = device.stream(), device.memory(40)
store = device.module(Path({str(TINY_PTX)!r})).function("store")
for index in (9, 10):
    try:
        store((1, 1, 1), (1, 1, 1), [memory, np.int64(index), np.int32(1)], 0, stream)
        stream.synchronize()
        print("fine")
    except FastSamError as error:
        print(error)
"""
    )
    ended = run_python(code, tmp_path)
    assert ended.out.startswith("fine\n") and "illegal memory access" in ended.out
    assert ended.counters["guard_violations"] == 1
