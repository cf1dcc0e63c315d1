"""The homes of the kernels, made once a session, and what runs on them.

FASTSAM_SANITIZE=1 builds it with address and undefined-behaviour sanitizers (test_kernels_sanitized.py sets it).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.emulator import build
from tests.emulator.host import DeviceKernels, Home, HostKernels


@pytest.fixture(scope="session")
def kernels_build() -> ModuleType:
    """How the kernels are compiled for the host."""
    return build


@pytest.fixture(scope="session")
def kernels_library(kernels_build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels, compiled for the host."""
    try:
        sanitize = os.environ.get("FASTSAM_SANITIZE") == "1"
        return kernels_build.build_cpu_kernels(tmp_path_factory.mktemp("kernels"), sanitize)
    except kernels_build.NoCompilerError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def cpu_home(kernels_library: Path) -> Home:
    """The kernels' CPU build."""
    return Home(HostKernels(kernels_library), 0 if os.environ.get("FASTSAM_SANITIZE") == "1" else 64)


@pytest.fixture(scope="session")
def opened_device(request: pytest.FixtureRequest) -> Any:
    """The GPU, or the emulated one with the kernels' own source compiled for the host."""
    from fastsam_deploy.runtime.cuda.driver.device import Device
    from tests.emulator.driver.emulated import Emulated, driver

    loaded = driver()
    if isinstance(loaded, Emulated):
        loaded.add_kernels(request.getfixturevalue("kernels_library"))
    return Device.open(0)


@pytest.fixture(scope="module", params=["host build", pytest.param("device", marks=pytest.mark.gpu)])
def host(request: pytest.FixtureRequest) -> Any:
    """Each home of the kernels: their CPU build, and the PTX on a device."""
    if request.param == "host build":
        yield request.getfixturevalue("cpu_home")
        return
    kernels = DeviceKernels(request.getfixturevalue("opened_device"))
    yield Home(kernels)
    kernels.close()


@pytest.fixture(params=[0, 1, 2], ids=["ascending", "descending", "shuffled"])
def order(request: pytest.FixtureRequest, host: Any) -> Any:
    """Each order in which the threads of a block, and the blocks, can take turns; a device has its own."""
    if request.param and isinstance(host.library, DeviceKernels):
        pytest.skip("a device has an order of its own")
    host.library.set_order(request.param)
    yield request.param
    host.library.set_order(0)


@pytest.fixture(scope="session")
def network(demo_onnx: Path) -> Any:
    """The demo model on the CPU."""
    from fastsam_deploy.runtime.engines import open_engine

    with open_engine(demo_onnx) as engine:
        yield engine


@pytest.fixture(scope="session")
def answers(network: Any, coffee: Path, cat: Path) -> Callable[[str, int], Any]:
    """(name of a photograph, imgsz) → its pixels, letterbox and the network's outputs."""
    from fastsam_deploy.runtime import load_image
    from fastsam_deploy.runtime.stages.letterbox import fit_rectangle, letterbox

    known: dict[tuple[str, int], Any] = {}

    def run(name: str, imgsz: int) -> tuple[NDArray[np.uint8], Any, NDArray[Any], NDArray[Any]]:
        if (name, imgsz) not in known:
            image = load_image({"coffee": coffee, "cat": cat}[name])
            place = fit_rectangle((image.shape[0], image.shape[1]), imgsz)
            raw = network.run(letterbox(image, place)[None])
            known[name, imgsz] = image, place, raw["detections"], raw["prototypes"]
        return known[name, imgsz]

    return run


@pytest.fixture(scope="module")
def cuda_device(opened_device: Any) -> Any:
    """See `opened_device`."""
    return opened_device


@pytest.fixture(scope="module")
def open_network(cuda_device: Any) -> Callable[[Path], Any]:
    """Opens an ONNX file on it: in ONNX Runtime's CUDA provider, or its CPU provider on the same addresses."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from fastsam_deploy.runtime.engines.onnxruntime.device import OnnxRuntimeCudaNetwork
    from tests.emulator.driver.emulated import driver

    memory = "cpu" if driver().emulated else "cuda"
    if memory == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime {onnxruntime.__version__} has no CUDA provider; install the extra [gpu]")
    return lambda path: OnnxRuntimeCudaNetwork(path, cuda_device, memory=memory)
