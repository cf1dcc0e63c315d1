"""The stand-in for TensorRT on a device in memory, in all versions; and the real bindings where they are."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastsam_deploy.runtime.engines.tensorrt.library import TENSORRT_RTX
from tests.emulator.tensorrt.memory_device import MemoryDevice
from tests.emulator.tensorrt.world import APIS, OURS, RTX, VERSIONS, World


@pytest.fixture(params=sorted(VERSIONS))
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """TensorRT of one version, on a device in memory; `world.ours` has our modules on top of it."""
    yield from _world(request.param, monkeypatch)


@pytest.fixture
def newest(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The same, of the newest version only."""
    yield from _world(sorted(VERSIONS, key=float)[-1], monkeypatch)


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """TensorRT for RTX, likewise."""
    yield from _world(RTX, monkeypatch)


def _world(version: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(json.loads(APIS[version].read_text()), MemoryDevice())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, world.library.modules[0], world.module)
        modules = {name.rsplit(".", 1)[1]: importlib.import_module(name) for name in OURS}
        world.ours = SimpleNamespace(**modules)
        patch.setattr(world.ours.network.Device, "open", lambda number=0: _only(world.device, number))
        yield world


def _only(device: MemoryDevice, number: int) -> MemoryDevice:
    from fastsam_deploy.runtime.errors import DeviceError

    if number:
        raise DeviceError(f"device cuda:{number}: there is 1 device here")
    return device


@pytest.fixture(scope="session")
def bindings() -> Callable[[str], Path]:
    """Folder of the real bindings of a version, as in "11.4" or "rtx-1.7"; skips where they are not."""
    folder = os.environ.get("FASTSAM_TRT_BINDINGS")
    if not folder:
        pytest.skip(
            "FASTSAM_TRT_BINDINGS names no folder of TensorRT's bindings; scripts/dev/trt_bindings.py makes one"
        )

    def find(version: str) -> Path:
        found = [path for path in Path(folder).iterdir() if path.name.startswith(f"{version}.")]
        if version == RTX and not found:
            pytest.skip(f"{folder} has no TensorRT for RTX, which is for Linux on x86-64 only")
        assert len(found) == 1, f"{folder}: expected one folder {version}.*, found {found}"
        return found[0]

    return find


@pytest.fixture(scope="session")
def rtx_module(bindings: Callable[[str], Path]) -> Any:
    """NVIDIA's TensorRT for RTX itself; skips where it is not. No other test sees it on the path."""
    folder = str(bindings(RTX))
    names = ("tensorrt_rtx_bindings", "tensorrt_rtx_libs")
    sys.path.insert(0, folder)
    try:
        module = importlib.import_module(names[0])
    finally:
        sys.path.remove(folder)
        for name in [name for name in sys.modules if name.partition(".")[0] in names]:
            del sys.modules[name]
    return module


@pytest.fixture
def real_rtx(rtx_module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same, as our code imports it."""
    monkeypatch.setitem(sys.modules, TENSORRT_RTX.modules[0], rtx_module)
    return rtx_module


@pytest.fixture(scope="session")
def apis() -> dict[str, dict[str, Any]]:
    """Version → description of TensorRT's API."""
    return {version: json.loads(path.read_text()) for version, path in APIS.items()}
