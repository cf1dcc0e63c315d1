"""The README's commands run, its links lead somewhere, and its figures are those of the results files."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
NEED_A_GPU = [
    "bash scripts/onnx2trt.sh FastSAM-s.onnx --output FastSAM-s.plan --precision fp16",
    'python scripts/inference_trt.py --model_path FastSAM-s.plan --img_path dogs.jpg --point_prompt "[[520,360]]"',
]
COMMANDS = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines() if line]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder that looks like the clone from where the commands stand."""
    for name in ("examples", "models"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def _run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("fastsam")])
def test_commands_run(command: str, workplace: Path):
    program = command.split(maxsplit=1)[0]
    if program == "fastsam-export":
        pytest.importorskip("ultralytics", reason="needs the extra [export]")
    # The command of this environment, whatever PATH says.
    output = _run(["bash", "-c", f'PATH="{Path(sys.executable).parent}:$PATH" {command}'], workplace)
    assert output


def test_the_other_commands_are_known():
    """Installing and the two scripts, which scripts/test.sh and tests/scripts run; what needs a GPU."""
    known = {"bash scripts/demo.sh", "bash scripts/test.sh", "pip install '.[cpu]'", "pip install '.[cpu,export]'"}
    known |= {"pip install '.[gpu,trt,trt-export]'", *NEED_A_GPU}
    assert {line for line in COMMANDS if not line.startswith("fastsam")} == known


@pytest.mark.parametrize("command", NEED_A_GPU)
def test_commands_that_need_a_gpu_say_so_without_one(command: str, workplace: Path):
    """Their options are taken, their files looked at, and the end is one line and exit code 2."""
    shutil.copytree(ROOT / "scripts", workplace / "scripts")
    for name, source in (("FastSAM-s.onnx", "models/fastsam-demo.onnx"), ("dogs.jpg", "examples/images/coffee.jpg")):
        shutil.copy(ROOT / source, workplace / name)
    (workplace / "FastSAM-s.plan").write_bytes(b"no plan")
    program, *arguments = shlex.split(command)
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(
        [sys.executable if program == "python" else program, *arguments],
        cwd=workplace, env=environment, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is here")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "pip install 'fastsam-deploy[trt]'" in done.stderr


@pytest.mark.parametrize("code", [block for language, block in BLOCKS if language == "python"])
def test_python_runs(code: str, workplace: Path):
    if "grpc://" in code:
        pytest.skip("needs a server: tests/triton_models/test_client.py runs it")
    if "TRTFastSAM" in code:
        pytest.skip("needs a GPU: tests/runtime/cuda/test_pipeline.py has its calls")
    assert "(" in _run([sys.executable, "-c", code], workplace)
    assert (workplace / "coffee.npz").is_file()


@pytest.mark.parametrize("document", [*ROOT.glob("README.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
def test_links_lead_somewhere(document: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize(
    ("script", "name", "table"),
    [("suite.report", "suite_end_to_end", "readme_table"), ("triton_load", "triton_load", "summary")],
)
def test_the_tables_are_those_of_the_results(script: str, name: str, table: str):
    benchmark = importlib.import_module(f"benchmarks.{script}")
    report = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))
    shown = README.split(f"{name}.json -->\n", maxsplit=1)[1].split("<!-- end -->", maxsplit=1)[0]
    assert shown.strip() == getattr(benchmark, table)(report).strip()
