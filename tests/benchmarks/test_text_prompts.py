"""The benchmark of text prompts still runs, once and small; it compares similarities before it times anything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("tokenizers", reason="needs the extra [clip]")


def test_it_runs(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.text_prompts", "--clip", str(ROOT / "tests/data/clip-tiny")]
    settings = ["--runs", "1", "--megapixels", "0.2", "--masks", "25", "--output", str(tmp_path)]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "text_prompts.json").read_text())
    assert len(report["images"]) == 2
    for row in report["images"]:
        assert row["masks"] == 25 and row["worst_difference"] <= 1e-4
        encoded = {name: row[name]["encoded"] for name in ("loop", "batched", "largest", "dense", "again")}
        assert encoded["loop"] == encoded["batched"] == 25
        assert encoded["largest"] <= 20 and encoded["dense"] == 1 and encoded["again"] == 0
    assert (tmp_path / "text_prompts.md").read_text().strip() in done.stdout
