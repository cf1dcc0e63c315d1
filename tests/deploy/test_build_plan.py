"""deploy/build_plan.py with a stand-in for trtexec: what it is asked, what is left behind, who can read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastsam_deploy.models import __file__ as models_file

SCRIPT = Path(__file__).resolve().parents[2] / "deploy/build_plan.py"
MODEL = Path(models_file).with_name("fastsam-demo.onnx")

# It writes what it was asked into the plan. `exit` is how it ends.
TRTEXEC = """#!/usr/bin/env bash
for argument in "$@"; do
  case $argument in
    --help) echo "--onnx=<file>  --saveEngine=<file>" && exit 0 ;;
    --saveEngine=*) plan=${argument#*=} ;;
  esac
done
# The first 28 bytes of a plan of TensorRT 11.1.0.106, then what was asked for.
{ printf ftrt; head -c 20 /dev/zero; printf '\\013\\001\\0\\152'; printf '%s\\n' "$@"; } >"$plan"
exit {exit}
"""


def build(folder: Path, *arguments: str, ends_with: int | None = 0) -> subprocess.CompletedProcess[str]:
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    if ends_with is not None:
        (programs / "trtexec").write_text(TRTEXEC.replace("{exit}", str(ends_with)))
        (programs / "trtexec").chmod(0o755)
    return subprocess.run(
        [sys.executable, SCRIPT, str(MODEL), *arguments],
        env={**os.environ, "PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin"},
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_trtexec_is_asked_for_the_shapes_of_the_profile(tmp_path: Path) -> None:
    done = build(tmp_path, "--output", "demo.plan", "--imgsz", "640", "--max-batch", "4")
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "demo.plan").read_bytes()[28:].decode().splitlines()
    assert asked[0] == f"--onnx={MODEL}"
    assert asked[1].startswith("--saveEngine=") and asked[1].endswith(".part.plan")
    assert asked[2:] == [
        "--skipInference",
        "--device=0",
        "--minShapes=images:1x3x640x640",
        "--optShapes=images:4x3x640x640",
        "--maxShapes=images:4x3x640x640",
        "--profilingVerbosity=detailed",
        "--noTF32",
    ]
    record = json.loads((tmp_path / "demo.json").read_text())
    assert (record["tensorrt"], record["gpu"], record["spec"]["precision"]) == ("11.1.0.106", None, "fp32")
    assert {path.name for path in tmp_path.iterdir()} == {"programs", "demo.plan", "demo.json"}


def test_the_repository_builder_reads_what_it_leaves(tmp_path: Path) -> None:
    to_triton = pytest.importorskip("fastsam_deploy.export.triton.to_triton", reason="needs the extra [export]")
    assert build(tmp_path, "--output", "demo.plan", "--imgsz", "640", "--max-batch", "4").returncode == 0
    made = to_triton.build_repository(tmp_path / "demo.plan", tmp_path / "repository")
    assert (made.serving.engine, made.serving.max_batch) == ("tensorrt", 4)
    config = (tmp_path / "repository/fastsam_engine/config.pbtxt").read_text()
    assert "dims: [ 3, 640, 640 ]" in config
    assert json.loads((tmp_path / "demo.json").read_text())["profile"]["max"] == [4, 3, 640, 640]


@pytest.mark.parametrize(
    ("arguments", "ends_with", "message"),
    [
        pytest.param(["--output", "demo.plan"], 1, "trtexec ended with 1", id="trtexec fails"),
        pytest.param(["--output", "demo.plan"], None, "run this in NVIDIA's", id="no trtexec"),
        pytest.param(["--output", "demo.engine"], 0, "a name that ends in .plan", id="another suffix"),
        pytest.param(["--output", "demo.plan", "--max-batch", "0"], 0, "1 or more", id="no batch"),
        pytest.param(["--output", "demo.plan", "--imgsz", "100"], 0, "multiple", id="no multiple of the stride"),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(
    tmp_path: Path, arguments: list[str], ends_with: int | None, message: str
) -> None:
    done = build(tmp_path, *arguments, ends_with=ends_with)
    assert done.returncode == 2
    assert done.stderr.startswith("build_plan: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"programs"}
