"""`scripts/gpu_check.sh` where there is no GPU: it says so, and tests nothing else in its place."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/gpu_check.sh"


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_without_a_gpu_it_ends_with_one_line(tmp_path: Path):
    try:
        ctypes.CDLL("libcuda.so.1")
        pytest.skip("there is an NVIDIA driver here")
    except OSError:
        pass
    done = _run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("gpu_check.sh: ")
    assert "== tests" not in done.stdout


def test_its_options_are_checked(tmp_path: Path):
    assert "usage: bash scripts/gpu_check.sh" in _run(tmp_path, "--help").stdout
    done = _run(tmp_path, "--modle", "x")
    assert done.returncode == 2
    assert "--modle: no such option" in done.stderr
    assert "--model needs a value" in _run(tmp_path, "--model").stderr
