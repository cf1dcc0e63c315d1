"""The benchmark still runs, once and small; it compares the answers itself before it times anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.triton


def test_it_runs(tmp_path: Path):
    pytest.importorskip("uvicorn", reason="needs the extra [serve]")
    if not os.environ.get("FASTSAM_TRITON_ENV"):
        pytest.skip("FASTSAM_TRITON_ENV names no environment with a Triton server; scripts/test.sh makes one")
    command = [sys.executable, "-m", "benchmarks.serve_load", "--requests", "1", "--rounds", "1"]
    small = ["--megapixels", "0.2", "--imgsz", "320", "--concurrency", "2", "--output", str(tmp_path)]
    done = subprocess.run([*command, *small], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "serve_load.json").read_text(encoding="utf-8"))
    assert {row["contender"] for row in report["rows"]} == {"fastsam_device", "fastsam serve"}
    assert all(row["per_s"] > 0 and row["p50_ms"] <= row["p95_ms"] for row in report["rows"])
    assert (tmp_path / "serve_load.md").read_text(encoding="utf-8").strip() in done.stdout
