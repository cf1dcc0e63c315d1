"""With a checkpoint as the reference: the shipped model passes, another input does not, and the report says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT, MODEL = ROOT / "models/fastsam-demo.pt", ROOT / "models/fastsam-demo.onnx"
pytestmark = pytest.mark.export
pytest.importorskip("ultralytics", reason="the reference needs the extra [export]")


@pytest.fixture(scope="module")
def run() -> Callable[..., Result]:
    """Calls the script in this process, where torch is imported once."""
    from benchmarks import fidelity

    return lambda *arguments: CliRunner().invoke(fidelity.app, list(map(str, arguments)), obj=fidelity.open_checkpoint)


def test_the_shipped_model_against_its_checkpoint(run: Callable[..., Result], tmp_path: Path):
    settings = ("--imgsz", 320, "--conf", 0.2, "--square", "-i", ROOT / "examples/images", "--output", tmp_path)
    limits = ("--min-recall", 1, "--min-precision", 1, "--min-iou", 0.99, "--max-box-px", 0.5, "--at-iou", 0.9)
    done = run("compare", CHECKPOINT, MODEL, f"wrong={MODEL}@imgsz=288", *settings, *limits)
    assert done.exit_code == 1, done.output
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    shipped, wrong = report["candidates"]
    assert report["reference"]["model"]["engine"] == "ultralytics"
    assert shipped["passed"] and shipped["fidelity"]["matched"] == shipped["fidelity"]["reference"] > 50
    assert shipped["notes"] == [], "the same checkpoint, input and classes"
    assert not wrong["passed"] and "its imgsz is 288" in wrong["notes"][0]
    assert (tmp_path / wrong["worst"][0]["picture"]).is_file()


def test_parity_is_written_when_there_is_parity(run: Callable[..., Result], tmp_path: Path):
    done = run("parity", "--no-shapes", "--imgsz", 320, "--output", tmp_path)
    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "parity_ultralytics.json").read_text(encoding="utf-8"))
    kept = json.loads((ROOT / "benchmarks/results/parity_ultralytics.json").read_text(encoding="utf-8"))
    assert written.keys() == kept.keys()
    for shape in ("rectangle", "square"):
        assert written[shape].keys() == kept[shape].keys()
        for report in (written, kept):
            assert report[shape]["masks"] == report[shape]["found"] > 20
            assert report[shape]["mean_iou"] >= 0.999 and report[shape]["minimum_iou"] >= 0.99


def test_a_model_of_another_checkpoint_writes_nothing(run: Callable[..., Result], tmp_path: Path):
    """Its scores are shifted: what an export with a wrong constant does."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(MODEL)
    (detections,) = (output for output in model.graph.output if output.name == "output0")
    for node in model.graph.node:
        node.output[:] = ["raw" if name == detections.name else name for name in node.output]
    shift = onnx.helper.make_tensor("shift", onnx.TensorProto.FLOAT, [1, 37, 1], [0.0] * 4 + [0.02] + [0.0] * 32)
    model.graph.initializer.append(shift)
    model.graph.node.append(onnx.helper.make_node("Add", ["raw", "shift"], [detections.name]))
    onnx.save(model, tmp_path / "shifted.onnx")
    done = run("parity", "--no-shapes", "--imgsz", 320, "--model", tmp_path / "shifted.onnx", "--output", tmp_path)
    assert done.exit_code == 1, done.output
    assert "score deviation is 0.02, expected at most 0.001" in done.stderr
    assert not (tmp_path / "parity_ultralytics.json").exists()


def test_errors_end_with_two(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.fidelity",
        "compare",
        tmp_path / "none.pt",
        MODEL,
        "-i",
        ROOT / "examples/images",
    ]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, encoding="utf-8", check=False, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fidelity: ") and "no such file; expected a checkpoint" in done.stderr
