"""One entry makes an engine known to everything: FastSAM, `fastsam doctor`, the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM, MissingDependencyError, ModelError, ParameterError
from fastsam_deploy.runtime.engines import open_device_network, open_engine, registry
from fastsam_deploy.runtime.native.library import state
from fastsam_deploy.runtime.settings import EngineSettings
from tests.command_line import run_fastsam
from tests.runtime.engines import toy

if sys.version_info >= (3, 11):
    import tomllib


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file that only the toy engine opens."""
    monkeypatch.setattr(registry, "ENGINES", (*registry.ENGINES, toy.ENTRY))
    path = tmp_path / "model.toy"
    path.write_bytes(b"a square")
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    return run_fastsam(monkeypatch, *arguments)


def test_a_new_engine_opens_its_files(model: Path) -> None:
    with FastSAM(model, threads=2, imgsz=64) as fastsam:
        segments = fastsam.segment(np.zeros((128, 128, 3), np.uint8))
        assert fastsam.description == {"engine": "toy", "threads": 2, "masks": state()}
        assert segments.boxes_xyxy.tolist() == [[32, 32, 96, 96]] and segments.areas.tolist() == [64 * 64]


def test_it_refuses_what_it_does_not_have(model: Path) -> None:
    with pytest.raises(ParameterError, match=r"model\.toy: precision is 'fp32', cache is True; the engine has no such"):
        open_engine(model, EngineSettings(precision="fp32", cache=True))
    with pytest.raises(ParameterError, match=r"engine is 'onnxruntime', expected one of toy for \.toy"):
        open_engine(model, EngineSettings(engine="onnxruntime"))
    with pytest.raises(ModelError, match=r"suffix '\.toy', expected one of \.onnx, \.plan, \.engine"):
        open_device_network(model)
    with pytest.raises(ModelError, match=r"suffix '\.x', expected one of \.onnx, \.plan, \.engine, \.rtx, \.toy"):
        open_engine(model.with_suffix(".x"))


def test_the_doctor_tries_it(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "doctor", "--model", str(model), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    (row,) = report["engines"]
    assert row["name"] == "toy cpu" and row["works"]
    assert {"name": "toy", "works": True, "detail": "always there", "reason": None} in report["libraries"]


def test_the_command_line_opens_and_names_it(
    model: Path, coffee: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "segment", str(coffee), "--model", str(model), "--engine", "toy", "--json", "-") == 0
    line = json.loads(capsys.readouterr().out)
    assert len(line["segments"]) == 1
    plans = "tensorrt (.plan, .engine); tensorrt_rtx (.rtx)"
    assert registry.overview() == f"onnxruntime or openvino (.onnx); {plans}; toy (.toy)"


def test_the_help_names_every_engine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(monkeypatch, "segment", "--help") == 0
    assert registry.overview() in " ".join(capsys.readouterr().out.split())


def test_files_that_belong_to_a_model(model: Path) -> None:
    assert registry.files_of(model) == (model,)
    weights = model.with_suffix(".weights")
    weights.write_bytes(b"")
    assert registry.files_of(model) == (model, weights)
    assert registry.files_of(Path("m.onnx")) == (Path("m.onnx"),)


def test_a_library_that_is_missing_is_named_with_its_extra(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, _: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(registry, "import_module", missing)
    for path, settings, extra in (
        (model, EngineSettings(), "toy"),
        (Path(__file__).with_suffix(".onnx"), EngineSettings("cuda"), "gpu"),
    ):
        monkeypatch.setattr(Path, "is_file", lambda _: True)
        with pytest.raises(MissingDependencyError, match=rf"pip install 'fastsam-deploy\[{extra}\]'"):
            open_engine(path, settings)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of Python 3.11")
def test_every_extra_is_there() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    for entry in (*registry.ENGINES, registry.TRITON):
        named = {*entry.extras.values(), *filter(None, entry.device_extra.split(","))}
        assert named <= extras, entry.name


def test_work_that_needs_an_engine_does_not_begin_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.require_engine(".onnx")
    monkeypatch.setattr(registry, "find_spec", lambda name: name == "openvino" or None)
    registry.require_engine(".onnx")
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"no engine for .onnx files .* run: pip install .*\[cpu\]"):
        registry.require_engine(".onnx")
