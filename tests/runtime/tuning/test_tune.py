"""`fastsam tune`: real models on photographs, the limits, what is kept, and who follows it."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.errors import ModelError, ParameterError
from fastsam_deploy.runtime.measure.run import ModelArgument
from fastsam_deploy.runtime.tuned import Machine, Tuned, tuned_path
from fastsam_deploy.runtime.tuning.candidates import Axes, candidates_for, int8_target, same_results
from fastsam_deploy.runtime.tuning.choice import Measured, best_of, frontier_of
from fastsam_deploy.runtime.tuning.loads import Load, ServedLoad, best_load, loads_for
from tests.command_line import run_fastsam


@pytest.fixture
def model(demo_onnx: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(demo_onnx, tmp_path / "m.onnx"))


@pytest.fixture
def photographs(coffee: Path, cat: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for path in (coffee, cat):
        shutil.copy(path, folder)
    return folder


def _tune(monkeypatch: pytest.MonkeyPatch, model: Path, photographs: Path, *more: str) -> int:
    common = ("--engine", "onnxruntime", "--no-int8", "--runs", "1", "--images", str(photographs))
    return run_fastsam(monkeypatch, "tune", str(model), *common, *more)


def test_a_run_and_a_model_that_follows_it(
    model: Path, photographs: Path, cat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ("--imgsz", "96", "--imgsz", "640", "--threads", "1", "--threads", "2")
    assert _tune(monkeypatch, model, photographs, *sizes) == 0
    said = capsys.readouterr()
    assert "m.tuned.json: ONNX Runtime fp32" in said.out.replace("\n", "")
    run = json.loads((model.with_suffix(".tune") / "tune.json").read_text())
    ways = {way["name"]: way for way in run["ways"]}
    assert list(ways) == [
        "ONNX Runtime fp32",
        *(f"ONNX Runtime fp32, {t}, imgsz {s}" for t in ("1 thread", "2 threads") for s in (96, 640)),
    ]
    small = ways["ONNX Runtime fp32, 1 thread, imgsz 96"]
    assert small["latency_ms"] is None, "masks that are not near are not timed"
    assert "mean mask IoU" in small["failures"][0] and small["mean_iou"] < 0.95
    same = ways["ONNX Runtime fp32, 1 thread, imgsz 640"]
    assert (same["mean_iou"], same["recall"], same["failures"]) == (1, 1, [])
    assert run["chosen"] in ways and not ways[run["chosen"]]["failures"]
    assert run["command"].startswith("fastsam tune ")
    page = (model.with_suffix(".tune") / "tune.md").read_text()
    assert page.count("\n| ONNX Runtime fp32") == 5 and "chosen" in page

    tuned = Tuned.read(model)
    assert tuned.file == "m.onnx" and tuned.machine == Machine.this()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with FastSAM(model, engine="tuned") as followed, FastSAM(model) as plain:
            assert followed.description["threads"] == tuned.settings.get("threads", plain.description["threads"])
            segments, expected = followed.segment(cat), plain.segment(cat)
    np.testing.assert_array_equal(segments.areas, expected.areas)
    out = model.with_name("one.json")
    assert run_fastsam(monkeypatch, "segment", str(cat), "-m", str(model), "--engine", "tuned", "--json", str(out)) == 0
    assert len(json.loads(out.read_text())["segments"]) == len(expected)


def test_nothing_is_kept_where_nothing_meets_the_limits(
    model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned_path(model).write_text("earlier")
    assert _tune(monkeypatch, model, photographs, "--imgsz", "320", "--max-latency-ms", "0.001") == 1
    assert "nothing meets the limits" in capsys.readouterr().err
    assert tuned_path(model).read_text() == "earlier"


def test_a_further_candidate_is_measured_and_not_chosen(
    model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(shutil.copy(model, model.with_name("other.onnx")))
    assert _tune(monkeypatch, model, photographs, "--candidate", f"other={other}@threads=1") == 0
    run = json.loads((model.with_suffix(".tune") / "tune.json").read_text())
    assert [way["name"] for way in run["ways"]] == ["ONNX Runtime fp32", "other"]
    assert run["chosen"] == "ONNX Runtime fp32"


@pytest.mark.export
def test_a_triton_repository_has_the_load_that_served_most(
    model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnx", reason="needs the extra [export]")
    monkeypatch.setattr("fastsam_deploy.runtime.system.cpu.usable_cpus", lambda: 2)
    sizes = ("--imgsz", "320", "--min-mean-iou", "0", "--batch", "1", "--batch", "3")
    assert _tune(monkeypatch, model, photographs, "--target", "triton", *sizes) == 0
    run = json.loads((model.with_suffix(".tune") / "tune.json").read_text())
    keys = ("instances", "threads", "batch")
    assert [tuple(load[key] for key in keys) for load in run["loads"]] == [(1, 2, 1), (1, 2, 3), (2, 1, 1), (2, 1, 3)]
    assert all(load["images_per_second"] > 0 and load["latency_ms"] > 0 for load in run["loads"])
    assert run["load"] in run["loads"]
    repository = model.with_suffix(".tune") / "model_repository"
    config = (repository / "fastsam_device/config.pbtxt").read_text()
    chosen = run["load"]
    assert f"instance_group [ {{ count: {chosen['instances']} kind: KIND_CPU }} ]" in config
    assert f"max_batch_size: {chosen['batch']}\n" in config
    assert f'key: "threads" value: {{ string_value: "{chosen["threads"]}" }}' in config
    side = dict(next(way for way in run["ways"] if way["name"] == run["chosen"])["settings"]).get("imgsz", 640)
    assert f'key: "imgsz" value: {{ string_value: "{side}" }}' in config
    page = (model.with_suffix(".tune") / "tune.md").read_text()
    assert "## Many requests at once" in page and page.count("| chosen |") == 1
    capsys.readouterr()
    assert _tune(monkeypatch, model, photographs, "--target", "triton") == 2, "before anything is measured"
    assert "exists already" in capsys.readouterr().err


def test_batches_are_for_a_server(
    model: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _tune(monkeypatch, model, photographs, "--batch", "2") == 2
    assert "add --target triton" in capsys.readouterr().err
    assert _tune(monkeypatch, model, photographs, "--target", "triton", "--batch", "0") == 2
    assert "--batch is 0, expected 1 or more" in capsys.readouterr().err


def test_of_loads_the_fastest_within_the_limit_counts() -> None:
    assert [load.instances for load in loads_for(1, [4, 1, 4])] == [1, 1]
    slow, fast, wide = (
        ServedLoad(Load(*settings), rate, ms)
        for settings, rate, ms in (((1, 2, 1), 15.0, 66.0), ((2, 1, 1), 23.0, 86.0), ((2, 1, 4), 24.5, 330.0))
    )
    assert best_load([slow, fast, wide]) is wide
    assert best_load([slow, fast, wide], max_latency_ms=100) is fast
    assert best_load([slow, fast, wide], max_latency_ms=70) is slow
    assert best_load([slow, fast, wide], max_latency_ms=10) is None


@pytest.mark.export
def test_an_int8_file_is_made_and_chosen(
    model: Path, photographs: Path, cat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="needs the extra [export]")
    arguments = ("--engine", "onnxruntime", "--runs", "1", "--min-mean-iou", "0.5", "--images", str(photographs))
    assert run_fastsam(monkeypatch, "tune", str(model), *arguments) == 0
    run = json.loads((model.with_suffix(".tune") / "tune.json").read_text())
    int8 = run["ways"][1]
    assert int8["name"] == "ONNX Runtime int8" and 0.5 < int8["mean_iou"] < 1
    tuned = Tuned.read(model)
    file = Path(int8["file"]).relative_to(model.parent).as_posix()
    Tuned(file, {**tuned.sha256, file: _sha(model)}, {}, Machine.this()).write(model)
    with pytest.raises(ModelError, match=f"another {file} than the one that is there"):
        FastSAM(model, engine="tuned")


def _sha(path: Path) -> str:
    from fastsam_deploy.runtime.tuned import sha256_of

    return sha256_of(path) or ""


def _written(model: Path, settings: dict[str, Any], machine: Machine | None = None, file: str = "m.onnx") -> None:
    hashes = {name: _sha(model.parent / name) for name in {"m.onnx", file}}
    Tuned(file, hashes, settings, machine or Machine.this()).write(model)


def test_another_machine_is_told(model: Path, coffee: Path) -> None:
    _written(model, {"engine": "onnxruntime", "threads": 1, "imgsz": 320}, Machine("Another Processor", 96))
    with pytest.warns(UserWarning, match="measured on Another Processor, 96 processors; this is"):
        tuned = FastSAM(model, engine="tuned")
    with tuned:
        assert (tuned.imgsz, tuned.description["threads"]) == (320, 1)
        assert len(tuned.segment(coffee)) > 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"threads": 2}, "which chooses threads; leave threads out"),
        ({"precision": "fp32", "hint": "latency"}, "leave precision, hint out"),
        ({"imgsz": 320}, "leave imgsz out"),
        ({"device": "cuda"}, "models are tuned for processors only"),
    ],
)
def test_what_tuning_chooses_is_not_given_too(model: Path, settings: dict[str, Any], said: str) -> None:
    _written(model, {"engine": "onnxruntime", "imgsz": 640})
    with pytest.raises(ParameterError, match=said):
        FastSAM(model, engine="tuned", **settings)


def test_files_that_do_not_belong_together(model: Path) -> None:
    with pytest.raises(ModelError, match=r"has not been tuned: there is no m.tuned.json beside it; run: fastsam tune"):
        FastSAM(model, engine="tuned")
    _written(model, {"engine": "onnxruntime"})
    model.write_bytes(model.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"was written for another m.onnx than the one that is there"):
        FastSAM(model, engine="tuned")
    for content in (b"", b"[]", b'{"file": 3}', b'{"file": "m.onnx", "sha256": {}, "settings": {}, "machine": null}'):
        tuned_path(model).write_bytes(content)
        with pytest.raises(ModelError, match=r"m.tuned.json: (cannot be read|was written for another)"):
            FastSAM(model, engine="tuned")
    with pytest.raises(ParameterError, match="expected an ONNX file that fastsam tune has measured"):
        FastSAM("grpc://localhost:1/fastsam", engine="tuned")


def test_ways_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastsam_deploy.runtime.tuning import candidates

    monkeypatch.setattr(candidates, "name_and_flags", lambda: ("x", frozenset({"avx512_bf16"})))
    ways = candidates_for(
        Path("m.onnx"),
        dict.fromkeys(("onnxruntime", "openvino"), Path("i.onnx")),
        Axes(("onnxruntime", "openvino"), (1, 2)),
    )
    names = [way.name for way in ways]
    assert names[0] == "ONNX Runtime fp32"
    assert len(names) == 1 + 2 * (2 + 4) == len(set(names))
    assert {"OpenVINO bf16, 2 threads", "OpenVINO mixed, 2 threads"} <= {*names}
    groups = same_results(ways)
    assert [len(group) for group in groups.values()] == [3, 2, 2, 2, 2, 2]
    monkeypatch.setattr(candidates, "name_and_flags", lambda: ("x", frozenset({"avx2"})))
    assert [int8_target(engine) for engine in ("onnxruntime", "openvino")] == ["cpu", "openvino"]
    assert not any("bf16" in way.name for way in candidates_for(Path("m.onnx"), {}, Axes(("openvino",))))


def test_the_choice_and_the_frontier() -> None:
    def measured(ms: float | None, iou: float, *failures: str) -> Measured:
        return Measured(ModelArgument(f"{ms}", "m.onnx", {}), ms, ms, ms, iou, iou, failures)

    far, near, slow, same = measured(20, 0.90, "too far"), measured(30, 0.96), measured(50, 0.95), measured(60, 1.0)
    ways = [same, slow, measured(None, 0.5, "too far"), near, far]
    assert best_of(ways) is near
    assert frontier_of(ways) == [far, near, same]
    assert best_of([far]) is None
