"""The benchmark still runs, once and small; it compares the masks itself before it times anything."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.export
pytest.importorskip("ultralytics", reason="the reference needs the extra [export]")


def test_it_runs(tmp_path: Path, coffee: Path):
    (tmp_path / "images").mkdir()
    shutil.copy(coffee, tmp_path / "images")
    command = [sys.executable, "-m", "benchmarks.cpu_vs_ultralytics", "--runs", "1", "--megapixels", "0.2"]
    small = ["--imgsz", "320", "--images", str(tmp_path / "images"), "--contenders", "ours", "retina"]
    done = subprocess.run(
        [*command, *small, "--output", str(tmp_path)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "cpu_vs_ultralytics.json").read_text())
    (row,) = report["images"]
    assert row["masks"] > 0
    assert row["worst_iou"] >= 0.99
    assert row["total_ratio_retina"] > 0 and row["around_ratio_retina"] > 0
    assert all(memory["peak"] >= memory["loaded"] > 0 for memory in report["memory_mb"].values())
    assert (tmp_path / "cpu_vs_ultralytics.md").read_text().strip() in done.stdout
