"""Measures the ways to run a model: first whether they keep its masks, then how fast those are that do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch.console import with_progress
from ..measure.findings import Finding
from ..measure.gate import FidelityLimits
from ..measure.report import Report
from ..measure.run import ModelArgument, open_argument, run_fidelity
from ..measure.speed import TOTAL, ModelSpeed, Times, measure_speed
from ..opening import ModelSettings
from .candidates import same_results
from .choice import Measured

if TYPE_CHECKING:
    from rich.console import Console

_AT_ONCE = 6
"""Models that are open together: each has its weights in memory."""

_RECALL_IOU = 0.75


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        ways: to run the model; the first is the reference.
        paths: image files.
        settings: common to all ways.
        limits: that masks have to meet, compared with the reference.
        max_latency_ms: of an image; None: no limit.
        runs: timed rounds.
        worst: number of pictures of the worst images for each way.

    Example:
        >>> Plan([ModelArgument("fp32", "m.onnx", {})], [Path("a.jpg")], ModelSettings(), FidelityLimits()).runs
        10
    """

    ways: Sequence[ModelArgument]
    paths: Sequence[Path]
    settings: ModelSettings
    limits: FidelityLimits
    max_latency_ms: float | None = None
    runs: int = 10
    worst: int = 2


def compare_masks(plan: Plan, console: Console) -> Report | None:
    """Compare the masks of all ways with those of the first; of ways that differ in threads alone, one of them.

    Returns:
        None if there is nothing to compare.

    Raises:
        FastSamError: a model cannot be opened, or an image cannot be segmented.

    Example:
        >>> compare_masks(plan, console).write(folder)  # doctest: +SKIP
    """
    first = plan.ways[0]
    leaders = [ways[0] for ways in same_results(plan.ways).values()]
    others = [way for way in leaders if way.name != first.name]
    if not others:
        return None
    return run_fidelity([first, *others], plan.paths, plan.settings, plan.limits, worst=plan.worst, console=console)


def measure(
    plan: Plan, report: Report | None, console: Console, step: Callable[[str], None] = lambda _: None
) -> list[Measured]:
    """Time the ways whose masks are near enough, and put everything together, in the order of the plan.

    Args:
        plan: what is measured.
        report: of `compare_masks`.
        console: shows the progress, if it is a terminal.
        step: called with what is done next.

    Raises:
        FastSamError: a model cannot be opened, or an image cannot be segmented.

    Example:
        >>> best_of(measure(plan, compare_masks(plan, console), console))  # doctest: +SKIP
    """
    masks = _masks(plan, report)
    kept = [way for way in plan.ways if not masks[way.name][2]]
    speeds: dict[str, ModelSpeed] = {}
    for group in _groups(kept):
        step(f"timing {', '.join(way.name for way in group)}")
        for speed in _timed(group, plan, console):
            speeds.setdefault(speed.name, speed)  # the reference is in every group; its first times are as good
    return [_measured(way, masks[way.name], speeds.get(way.name), plan.max_latency_ms) for way in plan.ways]


def _masks(plan: Plan, report: Report | None) -> dict[str, tuple[float, float, tuple[str, ...]]]:
    """Name of a way → mean IoU, recall and limits that are not met."""
    found: dict[str, tuple[float, float, tuple[str, ...]]] = {}
    results = {} if report is None else {result.candidate.name: result for result in report.results}
    for name, ways in same_results(plan.ways).items():
        result = results.get(name)
        of_all: tuple[float, float, tuple[str, ...]] = (1.0, 1.0, ())
        if result is not None:
            failed = tuple(_short(finding) for finding in result.findings if not finding.passed)
            of_all = (result.fidelity.mean_iou, result.fidelity.recall(_RECALL_IOU), failed)
        found |= {way.name: of_all for way in ways}
    return found


def _short(finding: Finding) -> str:
    """What is not met, for the cell of a table."""
    return f"{finding.what} {finding.worst:.4g} {'<' if finding.more_is_better else '>'} {finding.limit:g}"


def _groups(ways: Sequence[ModelArgument]) -> Iterator[list[ModelArgument]]:
    """So many at once that they fit into memory, each group with the reference: their times take turns."""
    first, *others = ways
    for start in range(0, max(len(others), 1), _AT_ONCE - 1):
        yield [first, *others[start : start + _AT_ONCE - 1]]


def _timed(group: Sequence[ModelArgument], plan: Plan, console: Console) -> list[ModelSpeed]:
    with ExitStack() as stack:
        opened = {way.name: stack.enter_context(open_argument(way, plan.settings)) for way in group}
        show = partial(with_progress, console=console, label="rounds")
        return measure_speed(opened, plan.paths, runs=plan.runs, progress=show)


def _measured(
    way: ModelArgument,
    masks: tuple[float, float, tuple[str, ...]],
    speed: ModelSpeed | None,
    max_latency_ms: float | None,
) -> Measured:
    mean_iou, recall, failed = masks
    if speed is None:
        return Measured(way, None, None, None, mean_iou, recall, failed)
    times: Times = speed.times()[TOTAL]
    values: dict[str, Any] = {"latency_ms": round(times.median, 3), "p95_ms": round(times.p95, 3)}
    if max_latency_ms is not None and times.median > max_latency_ms:
        failed = (*failed, f"latency {times.median:.1f} > {max_latency_ms:g} ms")
    per_second = round(speed.images_per_second, 3)
    return Measured(way, **values, images_per_second=per_second, mean_iou=mean_iou, recall=recall, failures=failed)
