"""What `fastsam doctor` says about things that are not on this machine."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastsam_deploy.runtime import doctor


class Driver:
    """Stands in for libcuda with two GPUs."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, _: int) -> int:  # noqa: N802
        return self.status

    def cuDriverGetVersion(self, number: Any) -> int:  # noqa: N802
        number._obj.value = 12080
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 2
        return 0

    def cuDeviceGetName(self, name: Any, _: int, device: int) -> int:  # noqa: N802
        name.value = f"GPU {device}".encode()
        return 0


def test_the_nvidia_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver())
    assert doctor._nvidia_driver() == "GPU 0, GPU 1; the driver supports CUDA 12.8"


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        pytest.param(lambda _: Driver(100), "cuInit gave CUDA error 100; run nvidia-smi", id="no device"),
        pytest.param(None, "no NVIDIA driver", id="no driver"),
    ],
)
def test_a_driver_that_does_not_work_has_a_reason(monkeypatch: pytest.MonkeyPatch, library: Any, reason: str) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", library or missing)
    row = doctor._try_library("nvidia driver", doctor._nvidia_driver)
    assert not row["works"]
    assert reason in row["reason"]


def test_libraries_are_really_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    core = SimpleNamespace(available_devices=["CPU", "GPU"])
    modules = {"openvino": SimpleNamespace(Core=lambda: core), "tensorrt": SimpleNamespace(__version__="10.9")}
    monkeypatch.setattr(doctor, "import_module", modules.__getitem__)
    assert doctor._openvino().startswith("devices CPU, GPU")
    assert doctor._tensorrt().startswith("TensorRT 10.9")

    def broken(_: str) -> None:
        raise OSError("libnvinfer.so.10: undefined symbol")

    monkeypatch.setattr(doctor, "import_module", broken)
    assert doctor._try_library("tensorrt", doctor._tensorrt)["reason"] == "libnvinfer.so.10: undefined symbol"


def test_an_engine_that_opens_but_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch, demo_onnx: Path) -> None:
    from fastsam_deploy.runtime import engines

    real = engines.open_engine

    def fragile(*arguments: Any) -> Any:
        engine = real(*arguments)

        def run(_: Any) -> None:
            raise RuntimeError("CUDA out of memory")

        monkeypatch.setattr(engine, "run", run)
        return engine

    monkeypatch.setattr(engines, "open_engine", fragile)
    row = doctor._try_engine(demo_onnx, "cpu")
    assert (row["works"], row["reason"]) == (False, "opens, but fails to run: CUDA out of memory")
