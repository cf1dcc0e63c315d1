"""REPORT.md and its plots from results/suite_*.json: no figure is written by hand.

    python -m benchmarks.suite.report          # benchmarks/REPORT.md, benchmarks/plots/*.png

The text is a function of the results alone; a test holds that REPORT.md is what the results say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.system.atomic import write_atomically

from ..records import load_results
from . import paper
from .goals import TRIED, Goal, Results, goals, rows_of, threads_of
from .tables import (
    batch_table,
    compiled_table,
    end_to_end_table,
    memory_table,
    network_table,
    prompts_table,
    scaling_table,
    startup_table,
    stream_table,
    sums_table,
    table,
)


def write(results_folder: Path, folder: Path) -> None:
    """REPORT.md and plots/ into a folder, from the results in another."""
    from .plots import draw

    results = load_results(results_folder)
    if not results:
        sys.exit(f"{results_folder}: no suite_*.json in it; run python -m benchmarks.suite first")
    draw(results, folder / "plots")
    write_atomically(folder / "REPORT.md", markdown(results).encode())


def markdown(results: Results) -> str:
    """REPORT.md."""
    sections = [
        "# Benchmark report\n\nMade by `python -m benchmarks.suite.report` from `benchmarks/results/suite_*.json`, "
        "which `python -m benchmarks.suite` measures.\nTimes are medians in milliseconds.",
        _machine(results),
        _goals(goals(results)),
        _section("End to end", ["end_to_end.png"], end_to_end_table(results), _END_TO_END),
        _section("Larger networks", [], sums_table(results), _SUMS),
        _section("Batches", [], batch_table(results), _BATCHES),
        _section("Networks alone", ["networks.png"], network_table(results), _NETWORKS),
        _section("Prompts", ["prompts.png"], prompts_table(results), _PROMPTS),
        _section("Prompts, in the paper's layout", [], paper.speed_by_prompts(results), _PAPER_SPEED),
        _section("Many files", [], stream_table(results), _STREAM),
        _section("Compiled code and NumPy", [], compiled_table(results), _COMPILED),
        _section("Memory", ["memory.png"], memory_table(results), _MEMORY),
        _section("Memory, in the paper's layout", [], paper.memory(results), _PAPER_MEMORY),
        _section("Accuracy", [], paper.edges(results), _ACCURACY),
        _section(
            "Accuracy of the precisions",
            [],
            paper.precisions(results),
            f"{_PRECISIONS} {paper.about_precisions(results)}",
        ),
        _section("Start-up and first image", [], startup_table(results), _STARTUP),
        _section("Size of the image", ["size.png"], scaling_table(results, "size"), _SIZE),
        _section("Number of masks", ["masks.png"], scaling_table(results, "masks"), _MASKS),
        _skipped(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


_README_PACKAGES = ("onnxruntime", "openvino", "torch", "ultralytics")
_FOOTNOTE = "¹ Its masks have the size of the network's input, not of the image; they are not compared."
_END_TO_END = (
    "RGB arrays in memory to segments with masks at the size of the image; the demo model, photographs cut to 4:3 and "
    "enlarged, input 768×1024. Masks were compared with those of ultralytics before timing. Ratios are ultralytics "
    "over ours with ONNX Runtime, medians of ratios within a round.\n\n" + _FOOTNOTE
)
_COMPILED = (
    "The stages around the network with the same outputs of it, in turn in one process: compiled code on one thread, "
    "NumPy with BLAS's threads. Masks were compared before timing. CPU: processor time of all threads."
)
_SUMS = (
    "The networks have random weights, whose detections mean nothing: the time is the sum of two medians, that of the "
    "network alone and what the demo model's detections take around it."
)
_BATCHES = "As many photographs in one call, images a second; numbers of masks were compared before."
_NETWORKS = (
    "Input 1×3×768×1024; n is the demo model, s and x have FastSAM's shape and random weights. Outputs were compared "
    "with PyTorch's before timing (worst: largest difference as a part of the output's largest value). The floor: "
    "operations of convolutions and matrix products over the largest FP32 product measured in the same run."
)
_PROMPTS = (
    "Points anywhere in the image, and grids E(k×k) as in FastSAM's paper; the masks that hold a point, compared with "
    "those of ultralytics. “Select” is the look-up alone, which needs no other run of the network."
)
_PAPER_SPEED = (
    "Milliseconds an image, median. The paper's rows are of another network (FastSAM-x, input 1024) on a GPU; ours are "
    "of the demo model on the processors named above. What can be compared is how the time grows with the prompts."
)
_PAPER_MEMORY = (
    "The paper counts GPU memory; ours is the largest peak of a process in the rows above, everything included."
)
_ACCURACY = (
    "Edges on BSDS500 (`python -m benchmarks.accuracy`, `docs/accuracy.md`). The demo model is small and has seen "
    "synthetic scenes only; the paper's rows are of FastSAM-x and of the test images."
)
_PRECISIONS = (
    "The same on files of other precisions, on a CPU. Mean best IoU: of every segment from 0.5 % of the image that a "
    "person drew, at the thresholds of the model card. Fidelity: beside the first file, segments with a score above "
    "0.4; recall and precision at a mask IoU of 0.5."
)
_STREAM = (
    "JPEG files, read, segmented and kept: `segment` one after the other, and `segment_stream`, which reads and makes "
    "masks while the network works on another. Both use the same processors; the masks were compared before."
)
_MEMORY = (
    "A fresh process for each row: the engine runs on a small image first, then the image is loaded; what segmenting "
    "it takes at its peak above that. Megabytes of 2^20 bytes."
)
_STARTUP = (
    "Fresh processes in turn, files in the disk cache: from the command to the first answer, steps in milliseconds."
)
_SIZE = "One photograph enlarged; “around” is everything but the network."
_MASKS = "At 3 MP, the best so many detections of a low threshold; “around” is everything but the network."


_MISSED = (
    "Missed, with the profile and the floor under it (operations over the measured peak, bytes over the measured "
    "bandwidth); “at the floor” is what would be measured if ours took the floor alone."
)


def readme_table(part: dict[str, Any]) -> str:
    """What docs/performance.md shows of results/suite_end_to_end.json: the table, and under it how it was measured."""
    results = {"end_to_end": part}
    found, settings = part["environment"], part["settings"]
    versions = ", ".join(f"{name} {found['packages'][name]}" for name in _README_PACKAGES if found["packages"][name])
    runs = [row["runs"] for row in rows_of(results, "end_to_end", threads=threads_of(results), batch=1)]
    how = (
        f"Milliseconds, medians of {min(runs)} to {max(runs)} runs taken in turn; {found['cpu']} "
        f"({', '.join(found['cpu_flags'])}), {threads_of(results)} threads; imgsz {settings['imgsz']}, conf "
        f"{settings['conf']}, iou {settings['iou']}; {versions}. Ratios: over ours with ONNX Runtime."
    )
    return "\n".join([end_to_end_table(results), "", how, _FOOTNOTE]) + "\n"


def _machine(results: Results) -> str:
    lines = ["## Machine", ""]
    said = None
    for name, part in results.items():
        found = part["environment"]
        packages = ", ".join(f"{package} {version}" for package, version in found["packages"].items() if version)
        peak = "; ".join(
            f"{threads} thread{'s' if threads != '1' else ''}: {one['gflops']:g} GFLOP/s FP32 (largest product), "
            f"{one['gb_per_s']:g} GB/s (copy, read and written)"
            for threads, one in found["peak"].items()
        )
        text = (
            f"{found['cpu']}, {found['processors']} processors ({', '.join(found['cpu_flags'])}), "
            f"{found['memory_mb']} MB; {found['system']}, Python {found['python']}, {packages}. Peak measured in the "
            f"same run, {peak}. {found['date']}."
        )
        quick = " **Quick run: its figures mean nothing.**" if part["settings"]["quick"] else ""
        lines.append(f"- {name}: {'the same' if text == said else text}{quick}")
        said = text
    return "\n".join(lines)


def _goals(found: Sequence[Goal]) -> str:
    cells = []
    for goal in found:
        sign = "≥" if goal.at_least else "≤"
        measured = "not measured" if goal.measured is None else f"{_short(goal.measured)}{goal.unit}"
        met = {True: "yes", False: "**no**", None: ""}[goal.met]
        cells.append([goal.text, f"{sign} {goal.wanted:g}{goal.unit}", measured, met])
    lines = ["## Goals", "", table(["goal", "wanted", "measured", "met"], cells)]
    missed = [goal for goal in found if goal.met is False]
    if missed:
        lines += ["", _MISSED, ""]
        rows = []
        for goal in missed:
            for i, (what, measured, floor, unit) in enumerate(goal.profile):
                best = f"{_short(goal.best)}{goal.unit}" if i == 0 and goal.best is not None else ""
                least = "" if floor is None else f"{_short(floor)} {unit}"
                rows.append([goal.text if i == 0 else "", what, f"{_short(measured)} {unit}", least, best])
        lines += [table(["goal", "what", "measured", "floor", "at the floor"], rows), ""]
        lines += [f"- {topic}: {TRIED[topic]}" for topic in dict.fromkeys(goal.topic for goal in missed)]
    return "\n".join(lines)


def _skipped(results: Results) -> str:
    lines = [f"- {name}: {one['what']}: {one['why']}" for name, part in results.items() for one in part["skipped"]]
    return "\n".join(["## Left out", "", *lines]) if lines else ""


def _section(title: str, plots: Iterable[str], figures: str, text: str) -> str:
    """ "" where there is nothing to show."""
    if not figures:
        return ""
    pictures = [f"![{title}](plots/{plot})" for plot in plots]
    return "\n\n".join([f"## {title}", text, figures, *pictures])


def _short(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
