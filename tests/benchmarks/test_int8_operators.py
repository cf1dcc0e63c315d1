"""The benchmark of INT8 operators: its files and rows are what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

from benchmarks import int8_operators


@pytest.mark.slow  # makes five files and opens each in two engines
def test_rows_of_all_ways(coffee: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs the extra [openvino]")
    arguments = [str(coffee.parent), "--files", str(tmp_path / "files"), "--output", str(tmp_path)]
    quick = ["--calibrate", "1", "--compare", "1", "--imgsz", "320", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["int8_operators", *arguments, *quick])
    int8_operators.main()
    rows = {row["name"]: row for row in json.loads((tmp_path / "int8_operators.json").read_text())["rows"]}
    alone, whole = (rows[f"ONNX Runtime INT8, {name}"]["operators"] for name in ("convolutions alone", "cpu"))
    assert alone["QLinearConv"]["nodes"] == 60 and "QLinearMul" not in alone
    assert whole["QLinearConv"]["nodes"] == 61 and whole["QLinearMul"]["nodes"] == 59
    assert rows["OpenVINO FP32"]["masks"]["320"]["mean_iou"] > 0.999
    assert "| QLinearSigmoid |" in (tmp_path / "int8_operators.md").read_text()
