"""What scripts/pt2onnx.sh and scripts/onnx2trt.sh make of their arguments."""

from __future__ import annotations

import pytest
import typer

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

from fastsam_deploy.export.cli.main import app
from fastsam_deploy.export.cli.scripts import SCRIPTS, command_line
from fastsam_deploy.runtime.errors import ParameterError

CASES = [
    ("pt2onnx", [], {}, "onnx FastSAM-x.pt --imgsz 1024 --output fast_sam_1024.onnx"),
    ("pt2onnx", ["a.pt", "--max_size=768,1024"], {}, "onnx a.pt --imgsz 768,1024 --output fast_sam_768x1024.onnx"),
    (
        "pt2onnx",
        ["--weights", "a.pt", "--nms", "--max-det", "100", "--conf", "0.2", "--iou=0.7"],
        {},
        "onnx a.pt --imgsz 1024 --output fast_sam_1024.onnx --nms --max-det 100 --conf 0.2 --iou 0.7",
    ),
    ("pt2onnx", ["--batch", "4", "a.pt", "-o", "b.onnx"], {"WEIGHTS": "c.pt"},
     "onnx a.pt --imgsz 1024 --output b.onnx --batch 4"),
    ("pt2onnx", ["--half"], {"WEIGHTS": "c.pt", "MAX_SIZE": "64", "OUTPUT": ""},
     "onnx c.pt --imgsz 64 --output fast_sam_64.onnx --half"),
    ("onnx2trt", ["m.onnx"], {}, "engine m.onnx --output m.plan --precision fp16"),
    ("onnx2trt", ["--device", "1", "--max-batch", "4", "--onnx", "m.onnx", "--trtexec"], {"PRECISION": "fp32"},
     "engine m.onnx --output m.plan --precision fp32 --device 1 --max-batch 4 --trtexec"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "environment", "expected"), CASES, ids=lambda value: str(value)[:50])
def test_arguments(name: str, arguments: list[str], environment: dict[str, str], expected: str) -> None:
    assert command_line(SCRIPTS[name], arguments, environment) == expected.split()


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_option_of_the_command_takes_the_model_for_its_value(name: str) -> None:
    """Every option with a value, as the command knows it: the model beside it stays the model."""
    script = SCRIPTS[name]
    parameters = typer.main.get_command(app).commands[script.command].params
    valued = [p.opts[0] for p in parameters if p.param_type_name == "option" and not p.is_flag]
    assert len(valued) > 8
    for option in valued:
        words = command_line(script, [option, "0.2", "model.file"], {})
        assert words[1] == "model.file"
        assert words[words.index(option) + 1] == "0.2"


def test_a_missing_value() -> None:
    with pytest.raises(ParameterError, match="--precision needs a value"):
        command_line(SCRIPTS["onnx2trt"], ["--precision"], {})
