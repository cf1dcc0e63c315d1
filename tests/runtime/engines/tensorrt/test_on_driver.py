"""The engine on the real device layer: PyCUDA on the emulated driver, in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="the stand-in for TensorRT needs it")


def test_the_engine_on_pycuda_and_a_driver(demo_onnx: Path, tmp_path: Path) -> None:
    if not os.environ.get("FASTSAM_EMULATED_CUDA"):
        pytest.skip("FASTSAM_EMULATED_CUDA names no emulated driver; scripts/dev/emulated_cuda.py makes it")
    if importlib.util.find_spec("pycuda") is None:
        pytest.skip("no PyCUDA in this environment; scripts/dev/emulated_cuda.py builds it")
    done = subprocess.run(
        [sys.executable, "-m", "tests.emulator.tensorrt.on_driver", str(demo_onnx), str(tmp_path)],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.stdout == "all of it\n", done.stderr
