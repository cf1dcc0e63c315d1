"""The driver of this test process: the emulated one where FASTSAM_EMULATED_CUDA names its folder, or the machine's own.

The emulated one is loaded before anything asks for libcuda.so.1: PyCUDA and cuda-bindings then get it by that name.
Other libraries of the process would too, and believe in a GPU: so `tests/runtime/cuda` runs in a process of its own.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pytest

from fastsam_deploy.runtime.cuda.driver.device import Device
from fastsam_deploy.runtime.cuda.driver.stream import Stream

FOLDER = "FASTSAM_EMULATED_CUDA"
KERNELS = "FASTSAM_EMULATED_CUDA_KERNELS"
TINY_PTX = Path(__file__).with_name("tiny.ptx")

OPEN = """
import sys
from fastsam_deploy.runtime import FastSamError
from fastsam_deploy.runtime.cuda.driver.device import Device
"""
"""How code for `run_python` begins."""

LIVING = ("device_blocks", "device_bytes", "pinned_blocks", "streams", "events", "modules", "graphs", "executables")
"""Counters of what is alive: all zero when everything was freed."""
WRONG = ("bad_frees", "range_errors", "guard_violations", "leaked_blocks", "changed_in_flight")
"""Counters of what must never happen."""


class Driver:
    """libcuda.so.1."""

    emulated = False

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def current_context(self) -> int | None:
        """Address of the context that is current on this thread."""
        context = ctypes.c_void_p()
        assert self.library.cuCtxGetCurrent(ctypes.byref(context)) == 0
        return context.value

    def living(self) -> dict[str, int]:
        """What is alive, as far as this driver tells."""
        return {}

    def wrong(self) -> dict[str, int]:
        """What should never happen and did."""
        return {}


class Emulated(Driver):
    """Ours; it counts, and can be set to fail."""

    emulated = True

    def __init__(self, folder: Path) -> None:
        super().__init__(ctypes.CDLL(str(folder / "libcuda.so.1"), mode=ctypes.RTLD_GLOBAL))
        self.folder = folder
        self.library.emulated_counter.restype = ctypes.c_int64
        self.library.emulated_set.argtypes = (ctypes.c_char_p, ctypes.c_int64)
        self.add_kernels(folder / "libtiny.so")

    def add_kernels(self, library: Path) -> None:
        """Kernels of a host build; the last one that has a kernel of a name is taken."""
        if self.library.emulated_add_kernels(str(library).encode()):
            raise FileNotFoundError(f"{library}: no host build of kernels")

    def counter(self, name: str) -> int:
        return int(self.library.emulated_counter(name.encode()))

    def set(self, name: str, value: int) -> None:
        """`memory`: bytes of each device; `launch_error`: of kernels; `defer`: 1 to run work as late as CUDA may, 2 in
        any order that CUDA allows, drawn from `seed`; `idle`: 1 to compute and copy nothing."""
        self.library.emulated_set(name.encode(), value)

    def living(self) -> dict[str, int]:
        return {name: self.counter(name) for name in LIVING}

    def wrong(self) -> dict[str, int]:
        return {name: number for name in WRONG if (number := self.counter(name))}


@lru_cache
def _loaded() -> Driver | str:
    folder = os.environ.get(FOLDER)
    if folder:
        found: Driver = Emulated(Path(folder))
    else:
        try:
            found = Driver(ctypes.CDLL("libcuda.so.1"))
        except OSError:
            return f"no NVIDIA driver, and {FOLDER} names no emulated one; scripts/dev/emulated_cuda.py makes it"
        if status := found.library.cuInit(0):
            return f"NVIDIA's driver does not start here: cuInit says {status}"
    if importlib.util.find_spec("pycuda") is None:
        return "no PyCUDA in this environment; scripts/dev/emulated_cuda.py builds it"
    return found


def driver() -> Driver:
    """The driver of this process; skips the test where there is none."""
    found = _loaded()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.fixture(name="cuda")
def cuda_fixture() -> Iterator[Driver]:
    """The driver: what is alive when the test ends is what was alive when it began, and nothing went wrong."""
    found = driver()
    gc.collect()  # what tests before this one have left
    before = found.living(), found.wrong()
    yield found
    gc.collect()
    assert (found.living(), found.wrong()) == before


@pytest.fixture(name="emulated")
def emulated_fixture(cuda: Driver) -> Iterator[Emulated]:
    """The emulated driver, with its settings as they were afterwards."""
    if not isinstance(cuda, Emulated):
        pytest.skip("this is about the emulated driver, or needs failures that a real GPU does not give")
    yield cuda
    for name, value in {"memory": 8 << 30, "defer": 0, "idle": 0, "launch_error": 0}.items():
        cuda.set(name, value)


@pytest.fixture(name="late")
def late_fixture(emulated: Emulated) -> Emulated:
    """The emulated driver, which runs work as late as CUDA may."""
    emulated.set("defer", 1)
    return emulated


@pytest.fixture(name="device")
def device_fixture(cuda: Driver) -> Device:
    return Device.open(0)


@pytest.fixture(name="stream")
def stream_fixture(device: Device) -> Iterator[Stream]:
    made = device.stream()
    yield made
    made.close()


@dataclass(frozen=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str
    counters: Mapping[str, int]


def run_python(code: str, folder: Path, settings: Mapping[str, int] | None = None, *, library: bool = True) -> Ended:
    """Run code in a new interpreter with the same driver, and with failures that were set.

    Args:
        folder: a temporary one, for the counters.
        library: whether the emulated driver is to be found at all.
    """
    variables = dict(os.environ)
    emulated = variables.pop(FOLDER, None)
    report = folder / "counters"
    if emulated:
        variables |= {f"{FOLDER}_{name.upper()}": str(value) for name, value in (settings or {}).items()}
        variables |= {f"{FOLDER}_REPORT": str(report), KERNELS: f"{emulated}/libtiny.so"}
        if library:
            variables["LD_LIBRARY_PATH"] = emulated
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    lines = report.read_text(encoding="ascii").splitlines() if report.is_file() else []
    counters = {name: int(value) for name, value in (line.split() for line in lines)}
    return Ended(done.returncode, done.stdout, done.stderr, counters)
