"""Which way is the best: those that keep the masks, the fastest of them, and the frontier of speed against masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..measure.run import ModelArgument


@dataclass(frozen=True)
class Measured:
    """A way to run the model, and what was measured of it.

    Attributes:
        way: file and settings.
        latency_ms: median of an image, from its file to its segments; None: not measured, as the masks failed.
        p95_ms: 95th percentile.
        images_per_second: one image after the other.
        mean_iou: of masks with those of the reference.
        recall: share of the reference's detections that it has too, at IoU 0.75.
        failures: limits that are not met, in words.

    Example:
        >>> Measured(ModelArgument("a", "m.onnx", {}), 40.0, 44.0, 25.0, 1.0, 1.0).passed
        True
    """

    way: ModelArgument
    latency_ms: float | None
    p95_ms: float | None
    images_per_second: float | None
    mean_iou: float
    recall: float
    failures: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all limits are met."""
        return not self.failures and self.latency_ms is not None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.way.name,
            "file": self.way.source,
            "settings": self.way.settings,
            "latency_ms": self.latency_ms,
            "p95_ms": self.p95_ms,
            "images_per_second": self.images_per_second,
            "mean_iou": round(self.mean_iou, 5),
            "recall": round(self.recall, 5),
            "failures": list(self.failures),
        }


def best_of(measured: Sequence[Measured]) -> Measured | None:
    """The fastest that meets all limits; None if none does.

    Example:
        >>> fast, slow = (Measured(ModelArgument(str(ms), "m.onnx", {}), ms, ms, 1.0, 1.0, 1.0) for ms in (40.0, 60.0))
        >>> best_of([slow, fast]).way.name
        '40.0'
    """
    passed = [each for each in measured if each.passed]
    return min(passed, key=lambda each: each.latency_ms or 0.0, default=None)


def frontier_of(measured: Sequence[Measured]) -> list[Measured]:
    """Those than which none is both faster and nearer to the reference, the fastest first.

    Example:
        >>> ways = [(40.0, 0.95), (60.0, 0.94), (90.0, 1.0)]
        >>> measured = [Measured(ModelArgument(str(ms), "m.onnx", {}), ms, ms, 1.0, iou, 1.0) for ms, iou in ways]
        >>> [each.latency_ms for each in frontier_of(measured)]
        [40.0, 90.0]
    """
    timed = sorted((each for each in measured if each.latency_ms is not None), key=lambda each: each.latency_ms or 0.0)
    frontier: list[Measured] = []
    for each in timed:
        if not frontier or each.mean_iou > frontier[-1].mean_iou:
            frontier.append(each)
    return frontier
