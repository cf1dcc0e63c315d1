"""Times of models on your own images, stage by stage; several models run in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..errors import ParameterError
from ..pipeline import FastSAM

STAGES = ("load", "letterbox", "engine", "device", "decode", "masks")
"""Stages of a model in this process, in their order. "device" is everything that a GPU does in one piece. The time
between the stages is "other"; for a model on a server, that is all of it."""

TOTAL, OTHER = "total", "other"


@dataclass(frozen=True)
class Times:
    """Statistics of one stage, milliseconds per image.

    Example:
        >>> Times.of([4.0, 6.0, 5.0]).median
        5.0
    """

    median: float
    p95: float
    least: float
    most: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Times:
        """Compute the statistics of one or more values."""
        median, p95 = np.percentile(milliseconds, (50, 95)).tolist()
        return cls(median, p95, min(milliseconds), max(milliseconds))


@dataclass
class ModelSpeed:
    """The measurements of one model.

    Attributes:
        name: used in reports.
        description: library, version and settings of the network.
        first_ms: time of the first image after opening, which includes one-time preparations.
        segments: number of segments in each image, in the order of the images.
        stages: stage → milliseconds of every timed run on every image.

    Example:
        >>> ModelSpeed("fp32", {}, stages={"total": [200.0, 300.0]}).images_per_second
        4.0
    """

    name: str
    description: dict[str, Any]
    first_ms: float = 0.0
    segments: list[int] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float:
        """Images per second, one image after the other."""
        return 1000 * len(self.stages[TOTAL]) / sum(self.stages[TOTAL])

    def times(self) -> dict[str, Times]:
        """Stage → statistics, "total" last."""
        names = [*(name for name in self.stages if name != TOTAL), TOTAL]
        return {name: Times.of(self.stages[name]) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, milliseconds rounded to 0.001."""
        return {
            "name": self.name,
            "model": self.description,
            "segments": self.segments,
            "first_ms": round(self.first_ms, 3),
            "images_per_second": round(self.images_per_second, 3),
            "stages_ms": {
                stage: {key: round(getattr(times, key), 3) for key in ("median", "p95", "least", "most")}
                for stage, times in self.times().items()
            },
        }


def measure_speed(
    models: Mapping[str, FastSAM],
    images: Sequence[Path],
    *,
    runs: int = 10,
    warmup: int = 2,
    progress: Callable[[range], Iterable[int]] = iter,
) -> list[ModelSpeed]:
    """Segment every image with every model `runs` times. The models run in turn, in an order that changes.

    If the machine is busy with something else for a moment, this affects the times of all models. Images are read from
    their files every time.

    Args:
        models: name → open model. They are not closed.
        images: files.
        runs: timed rounds.
        warmup: rounds before them, which are not timed.
        progress: wraps the numbers of the rounds, for a progress bar.

    Raises:
        ParameterError: no image, no model, or no run.
        FastSamError: an image cannot be segmented.

    Example:
        >>> with FastSAM() as model:  # doctest: +SKIP
        ...     measure_speed({"demo": model}, [Path("photo.jpg")])[0].times()["engine"].median
        183.1
    """
    if not images or not models:
        raise ParameterError(f"{len(images)} images and {len(models)} models; expected at least one of each")
    if runs < 1 or warmup < 0:
        raise ParameterError(f"runs is {runs}, warmup is {warmup}; expected at least 1 run, and 0 or more before")
    speeds = {name: ModelSpeed(name, dict(model.description)) for name, model in models.items()}
    for name, model in models.items():
        speeds[name].first_ms = _timed(model, images[0])[0][TOTAL]
    names = list(models)
    for run in progress(range(warmup + runs)):
        shift = run % len(names)
        for image in images:
            for name in names[shift:] + names[:shift]:
                ms, segments = _timed(models[name], image)
                if run == 0:
                    speeds[name].segments.append(segments)
                if run >= warmup:
                    for stage, value in ms.items():
                        speeds[name].stages.setdefault(stage, []).append(value)
    return list(speeds.values())


def _timed(model: FastSAM, image: Path) -> tuple[dict[str, float], int]:
    """Stage → milliseconds, and the number of segments."""
    start = perf_counter()
    segments = model.segment(image)
    total = (perf_counter() - start) * 1000
    ms = {stage: segments.timing_ms[stage] for stage in STAGES if stage in segments.timing_ms}
    # The remainder, so that the stages add up to the total.
    return {**ms, OTHER: total - sum(ms.values()), TOTAL: total}, len(segments)
