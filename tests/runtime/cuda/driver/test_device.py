"""Opening a device, what it says of itself, contexts and threads.

On the emulated driver in CI (see `driver/emulated.py`), and on the real one on a machine that has it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.runtime.cuda.driver.device import Device, device_number
from fastsam_deploy.runtime.errors import DeviceError
from tests.emulator.driver.emulated import (  # noqa: F401
    OPEN,
    TINY_PTX,
    Driver,
    Emulated,
    cuda_fixture,
    device_fixture,
    emulated_fixture,
    run_python,
)

pytestmark = pytest.mark.gpu

OPEN_AND_TELL = (
    OPEN
    + """
try:
    print(Device.open({number}))
except FastSamError as error:
    print(type(error).__name__, error)
"""
)


@pytest.mark.parametrize(("text", "number"), [("cuda", 0), ("cuda:0", 0), ("cuda:13", 13)])
def test_the_number_of_a_device(text: str, number: int):
    assert device_number(text) == number


@pytest.mark.parametrize(
    "text", ["cpu", "cuda:", "cuda:-1", "cuda:1.5", "cuda:x", "CUDA", " cuda", "cuda:0\n", "", "cuda:99999"]
)
def test_other_texts_are_refused(text: str):
    with pytest.raises(DeviceError, match="expected 'cuda' or 'cuda:N'"):
        device_number(text)


def test_importing_touches_no_driver(tmp_path: Path):
    code = """
import sys
import fastsam_deploy.runtime.cuda.driver.device, fastsam_deploy.runtime.cuda.driver.graphs
print([name for name in sys.modules if name.split(".")[0] in ("pycuda", "cuda")])
print("libcuda" in open("/proc/self/maps").read())
"""
    assert run_python(code, tmp_path).out.split("\n")[:2] == ["[]", "False"]


def test_without_pycuda_there_is_the_line_to_run(tmp_path: Path):
    code = "import sys; sys.modules['pycuda'] = None\n" + OPEN_AND_TELL.format(number=0)
    assert "MissingDependencyError" in (told := run_python(code, tmp_path).out)
    assert "pip install 'fastsam-deploy[cuda]'" in told


def test_without_a_driver(emulated: Emulated, tmp_path: Path):
    told = run_python(OPEN_AND_TELL.format(number=0), tmp_path, library=False).out
    assert told.startswith("DeviceError") and "libcuda.so.1" in told and "install the driver" in told


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        pytest.param({"init_error": 100}, "no CUDA-capable device", id="no device"),
        pytest.param({"devices": 0}, "no CUDA-capable device", id="all hidden"),
        pytest.param({"init_error": 999}, "unknown error", id="broken driver"),
        pytest.param({"init_error": 3}, "perhaps CUDA was in use before this process was forked", id="forked"),
        pytest.param({"init_error": 803}, "unsupported display driver", id="mixed versions"),
    ],
)
def test_a_driver_that_does_not_start(emulated: Emulated, tmp_path: Path, settings: dict[str, int], said: str):
    ended = run_python(OPEN_AND_TELL.format(number=0), tmp_path, settings)
    assert ended.out.startswith("DeviceError") and said in ended.out and "nvidia-smi" in ended.out
    assert (ended.code, ended.err) == (0, "")


@pytest.mark.parametrize("number", [-1, 64])
def test_a_number_that_is_not_there_lists_those_that_are(cuda: Driver, number: int):
    with pytest.raises(DeviceError, match=rf"cuda:{number}: no such device; found \d+: cuda:0 \(.+\).*CUDA_VISIBLE"):
        Device.open(number)


def test_what_a_device_says_of_itself(cuda: Driver, device: Device):
    assert str(device) == f"cuda:0 ({device.name})"
    assert device.compute_capability >= (7, 0)
    assert 0 < device.memory_free() <= device.memory_total
    assert [len(part) for part in device.uuid.split("-")] == [3, 8, 4, 4, 4, 12]
    assert device.pci_bus_id.count(":") == 2
    if cuda.emulated:
        assert (device.name, device.compute_capability, device.driver_version) == ("Emulated GPU 0", (7, 5), "13.0")


def test_there_is_one_object_for_each_number(emulated: Emulated, tmp_path: Path):
    code = (
        OPEN
        + """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(Device.open, [0, 1] * 20))
print(len(set(map(id, found))))
"""
    )
    ended = run_python(code, tmp_path)
    assert (ended.out, ended.err, ended.counters["contexts"]) == ("2\n", "", 2)


def test_active_nests_with_itself_and_with_other_devices(emulated: Emulated):
    first, second = Device.open(0), Device.open(1)
    seen = []
    with first.active():
        seen.append(emulated.current_context())
        with second.active():
            seen.append(emulated.current_context())
            with first.active(), first.active():
                seen.append(emulated.current_context())
            seen.append(emulated.current_context())
        seen.append(emulated.current_context())
    one, two = seen[:2]
    assert seen == [one, two, one, two, one]
    assert None not in seen and one != two
    assert emulated.current_context() is None


def test_active_ends_with_an_error_too(cuda: Driver, device: Device):
    before = cuda.current_context()
    with pytest.raises(ZeroDivisionError), device.active():
        _ = 1 / 0
    assert cuda.current_context() == before


def test_threads_and_devices(cuda: Driver):
    numbers = [0, 1] if cuda.emulated else [0]
    barrier = threading.Barrier(8)

    def work(worker: int) -> bool:
        device = Device.open(numbers[worker % len(numbers)])
        stream, rng = device.stream(), np.random.default_rng(worker)
        add = device.module(TINY_PTX).function("scale_add")
        barrier.wait()
        for _ in range(20):
            n = int(rng.integers(1, 2000))
            x, y = rng.random((2, n), dtype=np.float32)
            on_device = device.memory(x.nbytes), device.memory(y.nbytes)
            back = np.empty_like(y)
            stream.copy_in(on_device[0], x)
            stream.copy_in(on_device[1], y)
            add((-(-n // 128), 1, 1), (128, 1, 1), [*on_device, np.float32(worker), np.int32(n)], 0, stream)
            stream.copy_out(back, on_device[1])
            stream.synchronize()
            np.testing.assert_allclose(back, y + np.float32(worker) * x, rtol=1e-6)
        stream.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
