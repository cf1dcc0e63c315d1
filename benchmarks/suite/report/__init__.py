"""REPORT.md and its plots from results/KIND/suite_*.json: no figure is written by hand.

    python -m benchmarks.suite.report          # benchmarks/REPORT.md, benchmarks/plots/KIND/*.png

The text is a function of the results alone; a test holds that REPORT.md is what the results say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.system.atomic import write_atomically

from ..records import load_kinds
from . import paper
from .reached import processor_of, reached
from .readings import Results, rows_of, threads_of
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
)


def write(results_folder: Path, folder: Path) -> None:
    """REPORT.md and plots/ into a folder, from the results in another."""
    from .plots import draw

    kinds = load_kinds(results_folder)
    if not kinds:
        sys.exit(f"{results_folder}: no suite_*.json in it; run python -m benchmarks.suite first")
    for kind, results in kinds.items():
        if kind:
            draw(results, folder / "plots" / kind)
    write_atomically(folder / "REPORT.md", markdown(kinds).encode())


def markdown(kinds: Mapping[str, Results]) -> str:
    """REPORT.md.

    Args:
        kinds: kind of processor → results; "": those that no processor changes.
    """
    with_times = {kind: results for kind, results in kinds.items() if kind}
    parts = ["# Benchmark report", *(reached(kind, results) for kind, results in with_times.items()), _HOW]
    for kind, results in with_times.items():
        parts += [f"## All figures: {processor_of(kind, results)}", *_sections(kind, results)]
    accuracy = kinds.get("", {})
    parts += [
        _section("Accuracy", [], paper.edges(accuracy), _ACCURACY, level=2),
        _section(
            "Accuracy of the precisions",
            [],
            paper.precisions(accuracy),
            f"{_PRECISIONS} {paper.about_precisions(accuracy)}",
            level=2,
        ),
        *(_machine(kind, results) for kind, results in kinds.items()),
        *(_skipped(results) for results in kinds.values()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sections(kind: str, results: Results) -> list[str]:
    """Everything with times, of one kind of processor."""

    def section(title: str, plots: Sequence[str], figures: str, text: str) -> str:
        return _section(title, [f"plots/{kind}/{plot}" for plot in plots], figures, text)

    return [
        section("End to end", ["end_to_end.png"], end_to_end_table(results), f"{_END_TO_END}\n\n{_FOOTNOTES}"),
        section("Larger networks", [], sums_table(results), _SUMS),
        section("Batches", [], batch_table(results), _BATCHES),
        section("Networks alone", ["networks.png"], network_table(results), _NETWORKS),
        section("Prompts", ["prompts.png"], prompts_table(results), _PROMPTS),
        section("Prompts, in the paper's layout", [], paper.speed_by_prompts(results), _PAPER_SPEED),
        section("Many files", [], stream_table(results), _STREAM),
        section("Compiled code and NumPy", [], compiled_table(results), _COMPILED),
        section("Memory", ["memory.png"], memory_table(results), _MEMORY),
        section("Memory, in the paper's layout", [], paper.memory(results), _PAPER_MEMORY),
        section("Start-up and first image", [], startup_table(results), _STARTUP),
        section("Size of the image", ["size.png"], scaling_table(results, "size"), _SIZE),
        section("Number of masks", ["masks.png"], scaling_table(results, "masks"), _MASKS),
    ]


_HOW = (
    "Made by `python -m benchmarks.suite.report` from `benchmarks/results`, which `python -m benchmarks.suite` "
    "measures and keeps by the kind of processor. Times are medians in milliseconds."
)
_README_PACKAGES = ("onnxruntime", "openvino", "torch", "ultralytics")
_FOOTNOTES = (
    "¹ Its masks have the size of the network's input, not of the image; they are not compared.\n"
    "² By itself ultralytics gives PyTorch one thread fewer than the machine has processors."
)
_END_TO_END = (
    "RGB arrays in memory to segments with masks at the size of the image; the demo model, photographs cut to 4:3 and "
    "enlarged, input 768×1024. Masks were compared with those of ultralytics before timing. Ratios are ultralytics "
    "over ours with ONNX Runtime, medians of ratios within a round."
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
    "JPEG files, read, segmented and kept: `segment` one after the other, `segment_stream`, which reads and makes "
    "masks while the network works on others, and `segment_batch`. All use the same processors; masks were compared."
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


def _limit(settings: dict[str, Any]) -> str:
    return f"the best {settings['max_det']} masks; " if "max_det" in settings else ""


def readme_table(part: dict[str, Any]) -> str:
    """What docs/performance.md shows of results/KIND/suite_end_to_end.json: the table, and how it was measured."""
    results = {"end_to_end": part}
    found, settings = part["environment"], part["settings"]
    versions = ", ".join(f"{name} {found['packages'][name]}" for name in _README_PACKAGES if found["packages"][name])
    runs = [row["runs"] for row in rows_of(results, "end_to_end", threads=threads_of(results), batch=1)]
    count = f"{min(runs)}" if min(runs) == max(runs) else f"{min(runs)} to {max(runs)}"
    how = (
        f"Milliseconds, medians of {count} runs taken in turn; {found['cpu']} "
        f"({', '.join(found['cpu_flags'])}), {threads_of(results)} threads; imgsz {settings['imgsz']}, conf "
        f"{settings['conf']}, iou {settings['iou']}, {_limit(settings)}{versions}. {found['date']}. Ratios: "
        "over ours with ONNX Runtime."
    )
    return "\n".join([end_to_end_table(results), "", how, _FOOTNOTES]) + "\n"


def _machine(kind: str, results: Results) -> str:
    """Parts with the same machine and versions share a line."""
    described: dict[str, list[str]] = {}
    for name, part in results.items():
        quick = " **Quick run: its figures mean nothing.**" if part["settings"]["quick"] else ""
        described.setdefault(_environment(part["environment"]) + quick, []).append(name)
    lines = [f"- {', '.join(names)}: {text}" for text, names in described.items()]
    return "\n".join([f"## Machine and versions{f': {kind}' if kind else ', accuracy'}", "", *lines])


def _environment(found: dict[str, Any]) -> str:
    packages = ", ".join(f"{package} {version}" for package, version in found["packages"].items() if version)
    peak = "; ".join(
        f"{threads} thread{'s' if threads != '1' else ''}: {one['gflops']:g} GFLOP/s FP32 (largest product), "
        + "".join(f"{one[f'{name}_gflops']:g} {name.upper()}, " for name in ("bf16", "int8") if f"{name}_gflops" in one)
        + f"{one['gb_per_s']:g} GB/s (copy, read and written)"
        for threads, one in found["peak"].items()
    )
    libraries = "; ".join(f"{name}: {text}" for name, text in found.get("math_libraries", {}).items())
    unset = found.get("unset_variables")
    steered = "" if unset is None else f" Variables unset: {', '.join(f'{a}={b}' for a, b in unset.items()) or 'none'}."
    demo = f" Demo model {found['demo_model']}… (SHA-256 of the checkpoint)." if "demo_model" in found else ""
    return (
        f"{found['cpu']}, {found['processors']} processors ({', '.join(found['cpu_flags'])}), {found['memory_mb']} MB; "
        f"{found['system']}, Python {found['python']}, {packages}. {f'{libraries}.' if libraries else ''}{steered} "
        f"Peak measured in the same run, {peak}.{demo} {found['date']}."
    )


def _skipped(results: Results) -> str:
    lines = [f"- {name}: {one['what']}: {one['why']}" for name, part in results.items() for one in part["skipped"]]
    return "\n".join(["## Left out", "", *lines]) if lines else ""


def _section(title: str, plots: Iterable[str], figures: str, text: str, level: int = 3) -> str:
    """ "" where there is nothing to show."""
    if not figures:
        return ""
    pictures = [f"![{title}]({plot})" for plot in plots]
    return "\n\n".join([f"{'#' * level} {title}", text, figures, *pictures])
