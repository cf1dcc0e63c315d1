"""What workers count, in the metrics that Ray serves to Prometheus on each machine."""

from __future__ import annotations

from ..interface import Outcome

NAMES = ("fastsam_batch_images", "fastsam_batch_failed_images", "fastsam_batch_parts", "fastsam_batch_part_bytes")
"""Counters. Ray puts `ray_` before each and `_total` after it."""

SECONDS = "fastsam_batch_chunk_seconds"
_BOUNDARIES_S = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]

_TEXTS = (
    "Images that were segmented, or failed; those of a worker that died count again.",
    "Images of written parts that have an error in place of segments.",
    "Parts that were written.",
    "Bytes of the parts that were written.",
)


class WorkerMetrics:
    """The metrics of one worker. Make it in the worker.

    Example:
        >>> metrics = WorkerMetrics()  # doctest: +SKIP
        >>> metrics.on_images(1)  # doctest: +SKIP
    """

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Histogram

        self._counters = {name: Counter(name, text) for name, text in zip(NAMES, _TEXTS, strict=True)}
        self._seconds = Histogram(SECONDS, "Seconds from a task to its part.", boundaries=_BOUNDARIES_S)

    def on_images(self, count: int) -> None:
        """Count images, as soon as they are done."""
        self._counters[NAMES[0]].inc(count)

    def on_part(self, outcome: Outcome, seconds: float) -> None:
        """Count a part that was written."""
        for name, value in zip(NAMES[1:], (outcome.failed, 1, outcome.size), strict=True):
            if value:
                self._counters[name].inc(value)
        self._seconds.observe(seconds)
