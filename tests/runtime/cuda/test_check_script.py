"""`scripts/gpu_check.sh` goes through all of its steps. The emulated driver stands for that of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulator.driver.emulated import Emulated, driver

ROOT = Path(__file__).resolve().parents[3]

SANITIZER = """#!/usr/bin/env bash
echo "sanitizer: $*"
[ "$2" != racecheck ]
"""
"""compute-sanitizer: tells how it was called, and finds something with one of the tools."""

PYTHON = """#!/usr/bin/env bash
case " $* " in
  *"export.cli.main"*) exec "{python}" "$@" --trtexec ;;
  *"benchmarks.gpu_pipeline"*) echo "measured: $*" ;;
  *) exec "{python}" "$@" ;;
esac
"""
"""Python, in which a plan is not built but the commands for it are printed: all options are checked before that."""


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """The variables under which the script runs."""
    emulated = driver()
    if not isinstance(emulated, Emulated):
        pytest.skip("on a GPU the script itself is run")
    folder = tmp_path / "tools"
    folder.mkdir()
    for name, text in {"compute-sanitizer": SANITIZER, "python": PYTHON.format(python=sys.executable)}.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    (folder / "tensorrt.py").write_text("", encoding="utf-8")
    python_path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(emulated.folder),
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": str(folder / "python"),
        "PYTHONPATH": python_path,
    }


def _run(tools: dict[str, str], folder: Path, steps: str, *more: str) -> tuple[int, str, dict[str, str]]:
    """Exit status, output, and step → how it ended."""
    command = ["bash", str(ROOT / "scripts/gpu_check.sh"), "--output", str(folder), "--only", steps, *more]
    done = subprocess.run(command, env=tools, capture_output=True, text=True, timeout=300, check=False)
    _, _, summary = done.stdout.partition("== summary\n")
    lines = [line.split(maxsplit=1) for line in summary.splitlines()[:-1]]
    return done.returncode, done.stdout, {text.split(":")[0]: state for state, text in lines}


def test_a_step_that_fails_stops_no_other(tools: dict[str, str], tmp_path: Path):
    code, output, ended = _run(tools, tmp_path / "out", "memcheck,racecheck,synccheck,onnxruntime,speed-int8")
    assert output.startswith("== device\ncuda:0 (Emulated GPU 0)")
    assert ended == {
        "memcheck": "passed",
        "racecheck": "failed",
        "synccheck": "passed",
        "onnxruntime": "skipped",
        "speed-int8": "skipped",
    }
    assert code == 1
    assert "test_kernels_masks.py" in (tmp_path / "out/memcheck.log").read_text()


def test_photographs_are_given_for_int8_alone(tools: dict[str, str], tmp_path: Path):
    """`fastsam-export engine` refuses them elsewhere."""
    code, output, ended = _run(tools, tmp_path, "plan-fp32,plan-fp16,plan-int8")
    assert set(ended.values()) == {"passed"}, output
    assert code == 0
    assert output.count("trtexec --onnx") >= 3


def test_a_plan_is_measured_against_the_goals_of_its_model(tools: dict[str, str], tmp_path: Path):
    from benchmarks.gpu_goals import size_of

    (tmp_path / "FastSAM-x-fp16.plan").touch()
    code, output, ended = _run(tools, tmp_path, "speed-fp16,speed-int8", "--model", "models/FastSAM-x.onnx")
    assert (code, ended) == (0, {"speed-fp16": "passed", "speed-int8": "skipped"})
    plan = output.partition("--model ")[2].split()[0]
    assert plan == str(tmp_path / "FastSAM-x-fp16.plan") and size_of(Path(plan)) == "x"


def test_the_sanitizer_of_a_toolkit_off_the_path_is_taken(tools: dict[str, str], tmp_path: Path):
    toolkit = tmp_path / "cuda/bin"
    toolkit.mkdir(parents=True)
    (tmp_path / "tools/compute-sanitizer").rename(toolkit / "compute-sanitizer")
    for home, state in ((tmp_path / "cuda", "passed"), (tmp_path / "none", "skipped")):
        _, output, ended = _run({**tools, "CUDA_HOME": str(home)}, tmp_path / "out", "memcheck")
        assert ended == {"memcheck": state}, output


def test_requirements_name_what_is_missing_and_how_to_get_it(tools: dict[str, str], tmp_path: Path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("nothing is missing here")
    code, output, ended = _run(tools, tmp_path, "requirements,speed-fp16")
    assert (code, ended) == (1, {"requirements": "failed", "speed-fp16": "skipped"})
    assert "no CUDAExecutionProvider; run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install" in output
    hidden = (
        "import importlib.util as u\nreal = u.find_spec\nu.find_spec = lambda n: None if n == 'hypothesis' else real(n)"
    )
    (tmp_path / "tools/sitecustomize.py").write_text(hidden, encoding="utf-8")
    code, output, ended = _run(tools, tmp_path, "requirements,speed-fp16")
    assert (code, ended) == (1, {"requirements": "failed", "speed-fp16": "skipped"})
    assert 'hypothesis is missing: it comes with the extra [dev]\nrun: pip install ".[dev]"' in output


def test_what_is_missing_is_named_first(tools: dict[str, str], tmp_path: Path):
    (tmp_path / "tools/python").write_text(
        f'#!/usr/bin/env bash\nexec "{sys.executable}" -S "$@"\n', encoding="utf-8"
    )  # without site-packages there is nothing at all
    command = ["bash", str(ROOT / "scripts/gpu_check.sh"), "--output", str(tmp_path)]
    done = subprocess.run(command, env=tools, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu_check.sh: No module named") and "pip install" in done.stderr
