"""`fastsam bench speed`: stages add up, models are taken in turn, and what cannot be timed is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fastsam_deploy.runtime import FastSAM, ParameterError
from fastsam_deploy.runtime.cli.bench_speed import speed
from fastsam_deploy.runtime.measure.speed import measure_speed

app = typer.Typer()
app.command()(speed)


def _run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_stages_add_up_to_the_whole(coffee: Path, cat: Path):
    with FastSAM(imgsz=160) as model:
        (found,) = measure_speed({"demo": model}, [coffee, cat], runs=3, warmup=1)
        segments = [len(model.segment(path)) for path in (coffee, cat)]
    assert found.segments == segments
    assert list(found.times()) == ["load", "letterbox", "engine", "decode", "masks", "other", "total"]
    assert all(len(ms) == 2 * 3 for ms in found.stages.values())
    for i, total in enumerate(found.stages["total"]):
        parts = [ms[i] for stage, ms in found.stages.items() if stage != "total"]
        assert sum(parts) == pytest.approx(total)
        assert min(parts) > 0
    times = found.times()["total"]
    assert times.least <= times.median <= times.p95 <= times.most
    assert found.images_per_second == pytest.approx(6000 / sum(found.stages["total"]))
    assert found.first_ms > 0


def test_models_are_taken_in_turn(coffee: Path):
    order = []

    class Noted(FastSAM):
        def segment(self, image: Any, *arguments: Any, **more: Any) -> Any:
            order.append(self.imgsz)
            return super().segment(image, *arguments, **more)

    with Noted(imgsz=64) as small, Noted(imgsz=96) as large:
        measure_speed({"small": small, "large": large}, [coffee], runs=2, warmup=1)
    assert order == [64, 96, 64, 96, 96, 64, 64, 96], "the first images, and three rounds"


@pytest.mark.parametrize(("runs", "warmup", "count"), [(0, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_nothing_to_time_is_an_error(runs: int, warmup: int, count: int, coffee: Path):
    with FastSAM(imgsz=64) as model, pytest.raises(ParameterError, match="expected at least"):
        measure_speed({"demo": model}, [coffee] * count, runs=runs, warmup=warmup)


def test_the_command_prints_a_table_and_json(coffee: Path, cat: Path, demo_onnx: Path, tmp_path: Path):
    models = ["--model", f"one={demo_onnx}@threads=1", "--model", f"two={demo_onnx}@imgsz=96"]
    few = ["--runs", "2", "--warmup", "0", "--imgsz", "64"]
    done = _run(coffee, cat, *models, *few, "--json", tmp_path / "speed.json")
    assert done.exit_code == 0, done.output
    for word in ("one", "two", "letterbox", "engine", "total", "images a second", "2 rounds"):
        assert word in done.stdout
    report = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert report["images"] == [str(coffee), str(cat)]
    one, two = report["models"]
    assert (one["name"], two["name"]) == ("one", "two")
    assert one["model"]["threads"] == 1
    total = one["stages_ms"]["total"]
    assert 0 < total["least"] <= total["median"] <= total["p95"] <= total["most"]
    assert len(one["segments"]) == 2


def test_json_on_standard_output_stands_alone(coffee: Path):
    done = _run(coffee, "--runs", "1", "--warmup", "0", "--imgsz", "64", "--json", "-")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["models"][0]["name"] == "fastsam-demo.onnx"
    assert "images a second" in done.stderr


def test_each_engine_runs_each_model(coffee: Path):
    pytest.importorskip("openvino", reason="needs the extra [openvino]")
    engines = ["--engine", "onnxruntime", "--engine", "openvino"]
    done = _run(coffee, *engines, "--runs", "1", "--warmup", "0", "--imgsz", "64", "--json", "-")
    assert done.exit_code == 0, done.output
    models = json.loads(done.stdout)["models"]
    assert [one["model"]["engine"] for one in models] == ["onnxruntime", "openvino"]
    assert [one["name"] for one in models] == ["fastsam-demo.onnx, onnxruntime", "fastsam-demo.onnx, openvino"]


def test_two_models_of_one_name_are_refused(coffee: Path, demo_onnx: Path):
    done = _run(coffee, "--model", demo_onnx, "--model", demo_onnx)
    assert isinstance(done.exception, ParameterError)
    assert "two models are called fastsam-demo.onnx; expected a name for each" in str(done.exception)
