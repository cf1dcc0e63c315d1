"""The benchmark still runs, once and small; it compares the masks itself before it times anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.export
pytest.importorskip("ultralytics", reason="the reference needs the extra [export]")


def test_it_runs(tmp_path: Path):
    command = [sys.executable, str(ROOT / "benchmarks/cpu_vs_ultralytics.py"), "--runs", "1", "--megapixels", "0.2"]
    done = subprocess.run(
        [*command, "--imgsz", "320", "--output", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "cpu_vs_ultralytics.json").read_text())
    assert [row["masks"] > 0 and row["worst_iou"] >= 0.99 for row in report["images"]] == [True, True]
    assert (tmp_path / "cpu_vs_ultralytics.md").read_text().strip() in done.stdout
