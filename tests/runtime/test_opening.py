"""One way to open a model, whatever it is; settings that several models share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastsam_deploy.runtime import DeviceError, FastSAM, ParameterError, Thresholds
from fastsam_deploy.runtime.opening import ModelSettings, is_plan, model_files, open_model
from fastsam_deploy.runtime.settings import EngineSettings

GIVEN: dict[str, Any] = {"conf": 0.2, "max_det": 7, "imgsz": 64, "rect": False, "threads": 1, "engine": "onnxruntime"}


def test_settings_have_the_names_of_fastsam() -> None:
    settings = ModelSettings.from_keywords(**GIVEN)
    assert settings == ModelSettings(
        Thresholds(0.2, max_det=7), EngineSettings(threads=1, engine="onnxruntime"), 64, rect=False
    )
    assert settings.keywords().items() >= GIVEN.items()
    assert ModelSettings.from_keywords(**settings.keywords()) == settings
    assert settings.changed(imgsz=96, threads=2) == ModelSettings.from_keywords(**GIVEN | {"imgsz": 96, "threads": 2})
    with pytest.raises(ParameterError, match="conf is 2"):
        settings.changed(conf=2)
    with pytest.raises(DeviceError, match="device is 'tpu'"):
        ModelSettings.from_keywords(device="tpu")
    with pytest.raises(TypeError, match="speed"):
        ModelSettings.from_keywords(speed=9)


def test_a_model_gets_every_setting(demo_onnx: Path) -> None:
    with open_model(demo_onnx, ModelSettings.from_keywords(**GIVEN)) as model:
        assert type(model) is FastSAM
        assert model.thresholds == Thresholds(0.2, max_det=7)
        assert model.imgsz == 64
        assert model.description["threads"] == 1
    with open_model(None) as model:
        assert model.spec.imgsz == model.imgsz


class Opened:
    """Stands for TRTFastSAM."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self.given = arguments, keywords


@pytest.mark.parametrize("name", ["a.plan", "b.engine"])
def test_a_plan_runs_with_every_stage_on_its_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsam_deploy.runtime.trt.TRTFastSAM", Opened)
    settings = ModelSettings.from_keywords(conf=0.2, device="cuda:1", rect=False, precision="fp16")
    model: Any = open_model(name, settings, clip="clip")
    kept = {"conf": 0.2, "iou": 0.9, "max_det": 300, "imgsz": None, "rect": False}
    rest = {"device": "cuda:1", "engine": None, "precision": "fp16", "clip": "clip", "cache": False}
    assert model.given == ((name,), {**kept, **rest})
    for setting, value in {"threads": 2, "hint": "throughput", "cache": True}.items():
        with pytest.raises(ParameterError, match=f"{name}: {setting} is .* a plan is made for one GPU already"):
            open_model(name, ModelSettings.from_keywords(**{"device": "cuda", setting: value}))


def test_a_plan_of_tensorrt_for_rtx_may_have_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsam_deploy.runtime.trt.TRTFastSAM", Opened)
    model: Any = open_model("a.rtx", ModelSettings.from_keywords(device="cuda", cache=True))
    assert model.given[0] == ("a.rtx",) and model.given[1]["cache"] is True
    with pytest.raises(ParameterError, match=r"a\.rtx: threads is 2; a plan has no such setting: leave threads out"):
        open_model("a.rtx", ModelSettings.from_keywords(device="cuda", threads=2))


def test_settings_for_several_models_leave_out_what_one_cannot_have() -> None:
    settings = ModelSettings.from_keywords(device="cuda", threads=2, precision="fp32", imgsz=64)
    assert settings.for_model("m.onnx") == settings
    assert settings.for_model("m.plan") == settings.changed(threads=None)
    assert settings.for_model("grpc://host:8001/fastsam") == settings.changed(threads=None, device="cpu")


def test_reports_tell_what_was_given() -> None:
    assert ModelSettings.from_keywords(hint="throughput", cache=True).to_json() == {
        "conf": 0.4, "iou": 0.9, "max_det": 300, "imgsz": None, "device": "cpu", "threads": None, "rect": None,
        "hint": "throughput", "cache": "True",
    }  # fmt: skip


def test_which_files_a_model_has(tmp_path: Path, demo_onnx: Path) -> None:
    (tmp_path / "clip.json").touch()
    assert model_files("a/m.plan") == [Path("a/m.plan"), Path("a/m.json")]
    assert model_files("a/m.rtx") == [Path("a/m.rtx"), Path("a/m.rtx.json")]
    assert model_files(Path("m.onnx"), tmp_path) == [Path("m.onnx"), tmp_path / "clip.json"]
    assert model_files("http://host:8000/m.plan", Path("absent")) == []
    (demo,) = model_files(None)
    assert demo.read_bytes() == demo_onnx.read_bytes()
    assert not is_plan("http://host:8000/m.plan")
