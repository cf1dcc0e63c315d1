"""What `fastsam doctor` says about things that are not on this machine."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fastsam_deploy.runtime.engines import registry
from fastsam_deploy.runtime.errors import pip_install
from fastsam_deploy.runtime.measure import doctor

ENTRIES = {entry.name: entry for entry in registry.ENGINES}


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
    row = doctor._try_driver()
    assert not row["works"]
    assert reason in row["reason"]


def test_libraries_are_really_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {".openvino": SimpleNamespace(probe=lambda: "devices CPU, GPU"), ".onnxruntime.host": SimpleNamespace()}
    monkeypatch.setattr(registry, "import_module", lambda name, _: modules[name])
    row = {"name": "openvino", "works": True, "detail": "devices CPU, GPU", "reason": None}
    assert doctor._try_library(ENTRIES["openvino"]) == row
    assert doctor._try_library(ENTRIES["onnxruntime"]) is None, "it has nothing to tell"

    def broken(name: str, _: str) -> None:
        raise OSError("libnvinfer.so.10: undefined symbol")

    def missing(name: str, _: str) -> None:
        raise ModuleNotFoundError("No module named 'tensorrt'")

    for importing, reason in (
        (broken, "libnvinfer.so.10: undefined symbol"),
        (missing, f"not installed (No module named 'tensorrt'); run: {pip_install('trt')}"),
    ):
        monkeypatch.setattr(registry, "import_module", importing)
        assert doctor._try_library(ENTRIES["tensorrt"]) == {
            **row,
            "name": "tensorrt",
            "works": False,
            "detail": None,
            "reason": reason,
        }


def test_engines_tell_of_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("fastsam_deploy.runtime.engines.openvino")
    monkeypatch.setattr(openvino.ov, "Core", lambda: SimpleNamespace(available_devices=["CPU", "GPU"]))
    assert openvino.probe() == "devices CPU, GPU; the engine uses CPU"


def test_an_engine_that_opens_but_does_not_run_is_told(monkeypatch: pytest.MonkeyPatch, demo_onnx: Path) -> None:
    from fastsam_deploy.runtime import engines

    real = engines.open_engine

    def fragile(*arguments: Any, **named: Any) -> Any:
        engine = real(*arguments, **named)

        def run(_: Any) -> None:
            raise RuntimeError("CUDA out of memory")

        monkeypatch.setattr(engine, "run", run)
        return engine

    monkeypatch.setattr(engines, "open_engine", fragile)
    row = doctor._try_engine(demo_onnx, ENTRIES["onnxruntime"], "cpu")
    assert (row["works"], row["reason"]) == (False, "opens, but fails to run: CUDA out of memory")


def test_openvino_is_tried_and_its_precision_told(monkeypatch: pytest.MonkeyPatch, demo_onnx: Path) -> None:
    openvino = pytest.importorskip("fastsam_deploy.runtime.engines.openvino")
    monkeypatch.setattr(openvino, "_name_of_type", lambda _: "bf16")  # as on a processor with AMX
    row = doctor._try_engine(demo_onnx, ENTRIES["openvino"], "cpu")
    assert row["works"] and row["spec"]["precision"] == "bf16"
    assert "in bf16 (the engine's choice on this processor; precision='fp32' switches it off)" in row["detail"]


@pytest.mark.parametrize(("flags", "told"), [({"avx2"}, False), ({"avx2", "amx_bf16"}, True)])
def test_a_processor_that_openvino_is_made_for(
    monkeypatch: pytest.MonkeyPatch, demo_onnx: Path, flags: set[str], told: bool
) -> None:
    def missing(name: str, _: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(registry, "import_module", missing)
    monkeypatch.setattr(doctor, "name_and_flags", lambda: ("a processor", frozenset(flags)))
    row = doctor._try_engine(demo_onnx, ENTRIES["openvino"], "cpu")
    assert not row["works"] and "pip install 'fastsam-deploy[openvino]'" in row["reason"]
    assert ("it uses this processor's BF16 units" in row["reason"]) is told


def test_a_plan_is_tried_with_tensorrt_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried = []

    def record(_: Path, entry: registry.EngineEntry, device: str) -> dict[str, Any]:
        tried.append((entry.name, device))
        return {"name": entry.name, "works": False, "detail": None, "reason": "not here", "spec": None}

    monkeypatch.setattr(doctor, "_try_engine", record)
    doctor.examine(tmp_path / "model.plan")
    assert tried == [("tensorrt", "cuda")]
    tried.clear()
    doctor.examine(tmp_path / "model.onnx")
    assert tried == [("onnxruntime", "cpu"), ("openvino", "cpu"), ("onnxruntime", "cuda")]


def test_two_builds_of_a_library_are_a_warning_with_the_lines_that_repair_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(*names: str) -> list[str]:
        monkeypatch.setattr(doctor, "_installed", lambda name: "5.0" if name in names else None)
        monkeypatch.setattr(doctor, "_try_engine", lambda *_: {"name": "x", "works": False, "reason": "", "spec": None})
        report = doctor.examine()
        assert [line for line in doctor.lines(report) if line.startswith("Warning")] == [
            f"Warning: {warning}" for warning in report["warnings"]
        ]
        return list(report["warnings"])

    (warning,) = installed("opencv-python", "opencv-python-headless")
    assert warning.startswith("opencv-python 5.0 and opencv-python-headless 5.0 are both installed")
    assert warning.endswith(
        "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless"
    )
    assert installed("opencv-python") == installed("opencv-python-headless") == installed() == []
    (warning,) = installed("onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "ultralytics")
    assert warning.startswith("onnxruntime 5.0 and onnxruntime-gpu 5.0 are both installed")
    assert "run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'fastsam-deploy[gpu]'" in warning
    (warning,) = installed("ultralytics", "ultralytics-opencv-headless")
    assert "run: pip uninstall -y ultralytics ultralytics-opencv-headless && pip install" in warning
    assert len(installed("opencv-python", "opencv-contrib-python", "onnxruntime", "onnxruntime-gpu")) == 2
