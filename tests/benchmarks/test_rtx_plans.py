"""The files that TensorRT for RTX takes are those that the results and the documentation name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", reason="needs the extra [export]")

from benchmarks import rtx_plans
from tests.emulator.tensorrt.fixtures import bindings, real_rtx, rtx_module

__all__ = ["bindings", "real_rtx", "rtx_module"]

RESULTS = Path(rtx_plans.__file__).parent / "results"


def as_expected(row: dict[str, Any]) -> bool:
    expected = rtx_plans.CASES[row["name"]][1]
    taken = {gpu for gpu, told in row["gpus"].items() if "plan_bytes" in told}
    types = all(told.get("types_are_those_of_the_file", True) for told in row["gpus"].values())
    return bool(row["gpus"]) and taken == set(expected) & set(row["gpus"]) and types


def test_the_results_are_those_that_are_expected() -> None:
    report = json.loads((RESULTS / "rtx_plans.json").read_text())
    assert [row["name"] for row in report["rows"]] == list(rtx_plans.CASES)
    assert all(map(as_expected, report["rows"]))
    assert rtx_plans.table(report) == (RESULTS / "rtx_plans.md").read_text()


@pytest.mark.slow
@pytest.mark.export
@pytest.mark.parametrize("name", rtx_plans.CASES)
def test_nvidias_builder_takes_what_it_took(real_rtx: Any, name: str) -> None:
    pytest.importorskip("torch", reason="needs the extra [export]")
    if name.startswith("CLIP"):
        pytest.importorskip("open_clip", reason="needs the extra [clip-export]")
    assert as_expected(rtx_plans.checked(name))
