"""REPORT.md says what the results say, and judges goals by them."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def _as_a_script(monkeypatch: pytest.MonkeyPatch):
    """Benchmarks import each other as scripts do."""
    monkeypatch.syspath_prepend(BENCHMARKS)


PARTS = {"network", "end_to_end", "prompts", "memory", "startup", "scaling", "stream", "gpu_host", "compiled"}


def test_the_report_is_that_of_the_results():
    from benchmarks.suite.records import load_kinds
    from benchmarks.suite.report import markdown

    kinds = load_kinds()
    assert set(kinds) == {"avx512-bf16", "avx2", ""}, "run python -m benchmarks.suite"
    assert set(kinds[""]) == {"accuracy", "precisions"}
    assert {name for results in kinds.values() for name in results} >= PARTS
    parts = [part for results in kinds.values() for part in results.values()]
    assert not [part["part"] for part in parts if part["settings"]["quick"]], "quick figures mean nothing"
    report = (BENCHMARKS / "REPORT.md").read_text(encoding="utf-8")
    assert report == markdown(kinds), "run python -m benchmarks.suite.report"
    plots = re.findall(r"\]\((plots/[^)]+)\)", report)
    assert len(plots) >= 6
    for plot in plots:
        assert (BENCHMARKS / plot).read_bytes().startswith(b"\x89PNG"), plot


def test_figures_come_first():
    lines = (BENCHMARKS / "REPORT.md").read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("## Reached: avx512-bf16") and lines[4].startswith("|  | reached | goal |")


def _part(name: str, rows: list[dict[str, Any]], ratios: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    machine = {"cpu": "Some CPU", "processors": 2, "cpu_flags": ["avx2"], "memory_mb": 8192, "system": "Linux"}
    peak = {count: {"gflops": 100.0, "gb_per_s": 10.0} for count in "12"}
    environment = {
        **machine,
        "python": "3.11",
        "packages": dict.fromkeys(("onnxruntime", "openvino", "torch", "ultralytics"), "1.0"),
        "peak": peak,
        "date": "2026-01-01",
    }
    settings = {"imgsz": 1024, "conf": 0.4, "iou": 0.9, "threads": [1, 2], "quick": False}
    skipped: list[dict[str, str]] = []
    return {"part": name, "environment": environment, "settings": settings, "rows": rows, "ratios": ratios or [],
            "skipped": skipped}  # fmt: skip


def _ms(**stages: float) -> dict[str, Any]:
    return {name: {"median": ms, "p95": ms, "min": ms, "max": ms} for name, ms in stages.items()}


def _row(contender: str, case: dict[str, Any], ms: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"case": case, "contender": contender, "title": contender, "threads": 2, "runs": 5, "ms": ms, **more}


@pytest.fixture
def results() -> dict[str, Any]:
    """A network of 5 GFLOP at 100 GFLOP/s (50 ms), images of 9 MB with 21 MB of masks at 10 GB/s (3 ms)."""
    case = {"image": "cat 2000×1500", "megapixels": 3.0, "threads": 2, "batch": 1}
    other = {**case, "image": "cup 2000×1500"}
    both = {"masks": 50, "box_pixels": 168_000_000, "worst_iou": 1.0}
    ours = _ms(before=2, network=80, after=18, total=100, around=20)
    theirs = _ms(before=5, network=200, after=1295, total=1500, around=1300)
    rows = [_row("ours_onnxruntime", case, ours, **both), _row("ultralytics", case, theirs, **both)]
    rows += [_row("ours_onnxruntime", other, ours, **both), _row("ultralytics", other, theirs, **both)]
    pair = {"of": "ultralytics", "over": "ours_onnxruntime"}
    alone = {**case, "threads": 1}
    rows += [_row("ours_onnxruntime", alone, ours, **both), _row("ultralytics", alone, theirs, **both)]
    ratios = [
        {"case": alone, **pair, "values": {"total": 8.0, "around": 55.0}},
        {"case": case, **pair, "values": {"total": 15.0, "around": 65.0}},
        {"case": other, **pair, "values": {"total": 9.0, "around": 140.0}},
    ]
    network = [
        _row(who, {"size": size, "threads": 2}, _ms(network=ms), gflop=5.0, precision="fp32", worst_difference=1e-6)
        for size, who, ms in (
            ("n", "ours_onnxruntime", 80), ("n", "ultralytics", 200),
            ("s", "ours_onnxruntime", 180), ("s", "ultralytics", 700),
        )
    ]  # fmt: skip
    return {"network": _part("network", network), "end_to_end": _part("end_to_end", rows, ratios)}


def _goal(results: dict[str, Any], text: str) -> Any:
    from benchmarks.suite.report.goals import goals

    (found,) = [goal for goal in goals(results, "avx2") if text in goal.text]
    return found


def test_a_goal_is_judged_by_the_worst_photograph(results: dict[str, Any]):
    goal = _goal(results, "3 MP, FP32")
    assert (goal.wanted, goal.measured, goal.met) == (10, 9.0, False)
    # The profile is that photograph's; at the floor, 1500 ms / (50 + 3).
    assert goal.profile == (("cup 2000×1500: network", 80, 50.0, "ms"), ("cup 2000×1500: around it", 20, 3.0, "ms"))
    assert goal.best == pytest.approx(1500 / 53)
    assert not goal.out_of_reach, "the floor allows it"
    results["end_to_end"]["ratios"][2]["values"]["total"] = 12.0
    assert _goal(results, "3 MP, FP32").met


def test_a_goal_beyond_the_floor_is_shown_against_it(results: dict[str, Any]):
    from benchmarks.suite.report import markdown

    results["network"]["environment"]["peak"]["2"]["gflops"] = 30.0  # 167 ms
    goal = _goal(results, "3 MP, FP32")
    assert goal.out_of_reach and goal.best == pytest.approx(1500 / (5 / 30 * 1000 + 3))
    assert "| **9×** | ≥ 10× | beyond the floor: 102 % of it | 8.84× |" in markdown({"avx2": results})


def test_the_best_way_in_a_precision_counts_and_the_floor_is_its_own(results: dict[str, Any]):
    part = results["end_to_end"]
    case = part["rows"][0]["case"]
    slow, fast = "ours_onnxruntime_int8", "ours_openvino_int8"
    own = _ms(before=2, network=40, after=18, total=60, around=20)
    more = {"masks": 50, "box_pixels": 168_000_000, "precision": "int8"}
    part["rows"] += [_row(name, case, own, **more) for name in (slow, fast)]
    part["ratios"] += [
        {"case": case, "of": "ultralytics", "over": name, "values": {"total": ratio, "around": 1.0}}
        for name, ratio in ((slow, 20.0), (fast, 25.0))
    ]
    goal = _goal(results, "end to end, 3 MP, INT8")
    assert goal.measured == 25 and goal.text.endswith(f"({fast})") and goal.met
    assert goal.best is None, "no peak of INT8 was measured"
    results["network"]["environment"]["peak"]["2"]["int8_gflops"] = 1000.0
    assert _goal(results, "end to end, 3 MP, INT8").best == pytest.approx(1500 / (5 + 3))


def test_around_the_network_is_judged_on_one_thread(results: dict[str, Any]):
    assert _goal(results, "everything around the network, 3 MP").measured == 55.0


def test_larger_networks_are_sums_of_medians(results: dict[str, Any]):
    from benchmarks.suite.report.readings import sums

    (ours, theirs, *_) = sums(results, "s", 3.0)
    assert (ours["total"], theirs["total"]) == (180 + 20, 700 + 1300)


def test_memory_and_points_may_not_be_more(results: dict[str, Any]):
    big = {"image": "cat", "megapixels": 24.0}
    memory = _row("ours_onnxruntime", big, {}, masks=300, over_engine_mb=140.0, box_pixels=2**23 * 90, peak_mb=400)
    results["memory"] = _part("memory", [memory])
    goal = _goal(results, "300 masks")
    assert (goal.met, goal.measured, goal.best) == (False, 140, 90)
    one, many = (_ms(total=100, network=80, prompt=ms) for ms in (0.5, 2.3))
    rows = [
        _row("ours_onnxruntime", {"points": name, "count": count, "image": "cat"}, ms, masks=1)
        for name, count, ms in (("1", 1, one), ("E(64×64)", 4096, many))
    ]
    results["prompts"] = _part("prompts", rows)
    goal = _goal(results, "4096 points")
    assert goal.measured == pytest.approx(1.8)
    assert goal.met


def test_what_was_not_measured_is_neither_met_nor_missed(results: dict[str, Any]):
    from benchmarks.suite.report import markdown
    from benchmarks.suite.report.goals import goals

    assert [goal.met for goal in goals({}, "avx512-bf16")] == [None] * 12
    assert _goal(results, "end to end, 3 MP, INT8").met is None
    assert "| not measured | ≥ 14× |  |  |" in markdown({"avx2": results})


def test_the_report_shows_profile_and_floor_of_what_is_missed(results: dict[str, Any]):
    from benchmarks.suite.report import markdown

    report = markdown({"avx2": results})
    line = next(line for line in report.splitlines() if "cup 2000×1500: network" in line)
    assert line.endswith("| cup 2000×1500: network | 80 ms | 50 ms | 28.3× |")
    assert "| **9×** | ≥ 10× | **no** | 28.3× |" in report
    assert "- network: The network takes" in report
    results["end_to_end"]["ratios"][2]["values"].update(total=12.0)
    assert "cup 2000×1500: network" not in markdown({"avx2": results}), "a goal that is met needs no excuse"


def test_the_report_depends_on_the_results_alone(results: dict[str, Any]):
    from benchmarks.suite.report import end_to_end_table, markdown, readme_table

    before = copy.deepcopy(results)
    assert markdown({"avx2": results}) == markdown({"avx2": copy.deepcopy(results)})
    assert results == before, "nothing is changed"
    for name, part in results.items():
        assert markdown({"avx2": {name: part}}).startswith("# Benchmark report")
    table = end_to_end_table(results).splitlines()
    assert table[2] == "| cat 2000×1500 | 50 | **ours_onnxruntime** | 2.0 | 80.0 | 18.0 | 100.0 |  |  |"
    assert table[3] == "|  |  | ultralytics | 5.0 | 200.0 | 1295.0 | 1500.0 | 65× | 15.0× |"
    shown = readme_table(results["end_to_end"])
    assert shown.startswith("\n".join(table))
    assert "medians of 5 runs taken in turn; Some CPU (avx2), 2 threads" in shown


def test_plots_are_drawn_for_what_there_is(results: dict[str, Any], tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the plots need the extra [dev]")
    from benchmarks.suite.report.plots import draw

    made = draw(results, tmp_path / "plots")
    assert [path.name for path in made] == ["end_to_end.png", "networks.png"]
    first = [path.read_bytes() for path in made]
    assert all(content.startswith(b"\x89PNG") and len(content) > 5000 for content in first)
    assert [path.read_bytes() for path in draw(results, tmp_path / "plots")] == first, "equal results, equal files"


def test_rows_stand_in_the_layout_of_the_paper_beside_its_own():
    from benchmarks.suite.report import paper

    row = {"title": "ours", "case": {"points": "E(32×32)"}, "ms": {"total": {"median": 61.7}}, "peak_mb": 201.4}
    lines = paper.speed_by_prompts({"prompts": _part("prompts", [row])}).splitlines()
    assert lines[2] == "| ours |  |  |  |  | 62 |  |"
    assert lines[-1] == "| FastSAM-x (paper, RTX 3090) | 40 | 40 | 40 | 40 | 40 | 40 |"
    assert "| ours | process, MB | 201 |" in paper.memory({"memory": _part("memory", [row])})
    figures = {"ods": 0.6, "ois": 0.61, "ap": 0.62, "r50": 0.7}
    edges = paper.edges({"accuracy": _part("accuracy", [{"name": "x", "images": 5, "boundaries": figures}])})
    assert "| x | 5 | 0.600 | 0.610 | 0.620 | 0.700 |" in edges
    assert "0.750" in edges
    row = {"name": "INT8", "images": 5, "boundaries": figures, "mean_best_iou": 0.5}
    row["fidelity"] = {"mean_iou": 0.97, "recall": 1.0, "precision": 0.98, "quality": 0.95}
    part = _part("precisions", [{**row, "name": "FP32", "fidelity": None}, row])
    assert "| INT8 | 5 | 0.600 | 0.610 | 0.620 | 0.700 | 0.500 | 0.970 | 1.000 | 0.980 | 0.950 |" in paper.precisions(
        {"precisions": part}
    )
    part["judging"] = {"images": 10, "thresholds": 99, "mean_cpu_seconds": 3.0}
    part["settings"] = {"every": 6, "data": "BSDS500 val", "thresholds": 33}
    text = paper.about_precisions({"precisions": part})
    assert "1 of every 6 images of BSDS500 val" in text and "3.0 s" in text and "5.0 minutes" in text
    part["settings"]["every"] = 1
    assert "All images of BSDS500 val, 33 thresholds" in paper.about_precisions({"precisions": part})
    assert paper.precisions({}) == paper.about_precisions({}) == ""
    assert paper.speed_by_prompts({}) == paper.memory({}) == paper.edges({}) == ""
