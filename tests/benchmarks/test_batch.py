"""The table of costs is that of the measured figures, and the page says what the results say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="needs the extra [batch]")

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
PRICES = {"hour": 0.05, "get": 0.4, "put": 5.0, "gigabyte": 0.023}


def result(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return values


def test_the_table_is_that_of_the_results() -> None:
    from benchmarks.batch_costs import markdown

    chunks_per_s = result("batch_ray")["driver"]["most_chunks_per_s"]
    assert (RESULTS / "batch_costs.md").read_text(encoding="utf-8") == markdown(
        result("batch_costs"), chunks_per_s, PRICES
    )


def test_twice_the_images_cost_twice_as_much() -> None:
    from benchmarks.batch_costs import _row

    def dollars(images: int) -> list[float]:
        cells = _row(result("batch_costs"), 100.0, PRICES, images, 1000).split("|")
        return [float(cell.strip().strip("$").replace(",", "")) for cell in cells if "$" in cell]

    for once, twice in zip(dollars(10**9), dollars(2 * 10**9), strict=True):
        assert twice == pytest.approx(2 * once, rel=0.01)


def test_the_page_has_the_measured_figures() -> None:
    text = " ".join((ROOT / "docs/cluster.md").read_text(encoding="utf-8").split())
    overhead, driver = result("batch_ray")["overhead"], result("batch_ray")["driver"]
    assert overhead["ray_to_local"]["median"] <= 1.1
    assert f"{overhead['ray_to_local']['median']:.2f} times the time" in text
    assert f"{driver['most_chunks_per_s']:.0f} chunks a second" in text
