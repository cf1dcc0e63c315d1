"""The kernels' CPU build, made once a session, and what runs on it.

FASTSAM_SANITIZE=1 builds it with address and undefined-behaviour sanitizers (test_kernels_sanitized.py sets it).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent


def load(path: Path) -> ModuleType:
    """A module by its file: a folder of tests is no package."""
    spec = importlib.util.spec_from_file_location(f"fastsam_tests_cuda_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kernels_build() -> ModuleType:
    """build.py"""
    return load(HERE / "build.py")


@pytest.fixture(scope="session")
def host(kernels_build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """host.py, with `host.library`, the HostKernels of the CPU build."""
    sanitize = os.environ.get("FASTSAM_SANITIZE") == "1"
    try:
        path = kernels_build.build_cpu_kernels(tmp_path_factory.mktemp("kernels"), sanitize)
    except kernels_build.NoCompilerError as error:
        pytest.skip(str(error))
    module: Any = load(HERE / "host.py")
    if sanitize:
        module.Memory.guard = 0
    module.library = module.HostKernels(path)
    return module


@pytest.fixture(params=[0, 1, 2], ids=["ascending", "descending", "shuffled"])
def order(request: pytest.FixtureRequest, host: Any) -> Any:
    """Each order in which the threads of a block, and the blocks, can take turns."""
    host.library.set_order(request.param)
    yield request.param
    host.library.set_order(0)


@pytest.fixture(scope="session")
def network(demo_onnx: Path) -> Any:
    """The demo model on the CPU."""
    from fastsam_deploy.runtime.engines import open_engine

    with open_engine(demo_onnx, device="cpu") as engine:
        yield engine


@pytest.fixture(scope="session")
def answers(network: Any, coffee: Path, cat: Path) -> Callable[[str, int], Any]:
    """(name of a photograph, imgsz) → its pixels, letterbox and the network's outputs."""
    from fastsam_deploy.runtime import load_image
    from fastsam_deploy.runtime.letterbox import fit_rectangle, letterbox

    known: dict[tuple[str, int], Any] = {}

    def run(name: str, imgsz: int) -> tuple[NDArray[np.uint8], Any, NDArray[Any], NDArray[Any]]:
        if (name, imgsz) not in known:
            image = load_image({"coffee": coffee, "cat": cat}[name])
            place = fit_rectangle((image.shape[0], image.shape[1]), imgsz)
            raw = network.run(letterbox(image, place)[None])
            known[name, imgsz] = image, place, raw["detections"], raw["prototypes"]
        return known[name, imgsz]

    return run
