"""Many requests at once: which number of instances, threads of each, and images in a batch serves most of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from ..measure.run import ModelArgument, open_argument
from ..opening import ModelSettings
from ..pipeline import FastSAM

MOST_INSTANCES = 4
"""Each has the weights in memory, and all are open while they take turns."""
_NEARLY = 0.97


@dataclass(frozen=True)
class Load:
    """How requests are served: the settings of a Triton repository.

    Attributes:
        instances: of the network.
        threads: CPU threads of an instance.
        batch: images in a call.

    Example:
        >>> Load(instances=2, threads=1, batch=4).images
        8
    """

    instances: int
    threads: int
    batch: int

    @property
    def images(self) -> int:
        """Under way at once."""
        return self.instances * self.batch


@dataclass(frozen=True)
class ServedLoad:
    """A load, and what was measured of it.

    Attributes:
        load: the settings.
        images_per_second: with calls on all instances without a pause; median of the rounds.
        latency_ms: of a call, with the others beside it; median.

    Example:
        >>> ServedLoad(Load(1, 2, 1), 16.2, 61.7).to_json()["images_per_second"]
        16.2
    """

    load: Load
    images_per_second: float
    latency_ms: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        figures = {"images_per_second": round(self.images_per_second, 3), "latency_ms": round(self.latency_ms, 3)}
        return {**asdict(self.load), **figures}


def loads_for(cpus: int, batches: Sequence[int]) -> list[Load]:
    """The loads that are worth measuring: instances that share the processors evenly.

    Args:
        cpus: processors.
        batches: numbers of images in a call.

    Example:
        >>> [(load.instances, load.threads) for load in loads_for(8, [1])]
        [(1, 8), (2, 4), (4, 2)]
    """
    counts = [count for count in (1, 2, MOST_INSTANCES) if count <= cpus]
    return [Load(count, cpus // count, batch) for count in counts for batch in sorted(set(batches))]


def measure_loads(
    way: ModelArgument,
    paths: Sequence[Path],
    settings: ModelSettings,
    loads: Sequence[Load],
    runs: int = 3,
    step: Callable[[str], None] = lambda _: None,
) -> list[ServedLoad]:
    """Serve the images with each load, in turn.

    Args:
        way: file and settings; its threads are those of the loads.
        paths: image files; a round takes each as often as it needs.
        settings: common to all.
        loads: what is compared.
        runs: rounds.
        step: called with what is done next.

    Raises:
        FastSamError: the model cannot be opened, or an image cannot be segmented.

    Example:
        >>> measure_loads(way, paths, ModelSettings(), loads_for(2, [1, 4]))  # doctest: +SKIP
    """
    count = 2 * max(load.images for load in loads)  # each instance has two calls or more
    images = list(islice(cycle(paths), count))
    rates: dict[Load, list[float]] = {load: [] for load in loads}
    calls: dict[Load, list[float]] = {load: [] for load in loads}
    with ExitStack() as stack:
        opened: dict[int, list[FastSAM]] = {}
        for load in loads:
            if load.instances not in opened:
                argument = replace(way, settings={**way.settings, "threads": load.threads})
                opened[load.instances] = [
                    stack.enter_context(open_argument(argument, settings)) for _ in range(load.instances)
                ]
        for run in range(runs + 1):  # the first is not counted: it makes the memory of each shape
            step(f"serving, round {run} of {runs}")
            for load in loads if run % 2 else reversed(loads):
                start = time.perf_counter()
                latencies = _serve(opened[load.instances], images, load)
                if run:
                    rates[load].append(len(images) / (time.perf_counter() - start))
                    calls[load] += latencies
    return [ServedLoad(load, median(rates[load]), median(calls[load])) for load in loads]


def best_load(served: Sequence[ServedLoad], max_latency_ms: float | None = None) -> ServedLoad | None:
    """The load with most images a second; of those within 3 % of it, the one with fewest images under way.

    Args:
        served: what was measured.
        max_latency_ms: of a call; None: no limit.

    Returns:
        None if all calls take longer.

    Example:
        >>> one, four = ServedLoad(Load(2, 1, 1), 23.0, 85.0), ServedLoad(Load(2, 1, 4), 23.1, 345.0)
        >>> best_load([one, four]) is one
        True
    """
    allowed = [each for each in served if max_latency_ms is None or each.latency_ms <= max_latency_ms]
    most = max((each.images_per_second for each in allowed), default=0.0)
    near = [each for each in allowed if each.images_per_second >= _NEARLY * most]
    return min(near, key=lambda each: (each.load.images, each.latency_ms), default=None)


def _serve(models: Sequence[FastSAM], images: Sequence[Path], load: Load) -> list[float]:
    """Milliseconds of each call."""
    calls = iter([images[i : i + load.batch] for i in range(0, len(images), load.batch)])

    def work(model: FastSAM) -> list[float]:
        times = []
        for batch in calls:  # a list's iterator gives each item to one thread
            start = time.perf_counter()
            model.segment_batch(batch)
            times.append((time.perf_counter() - start) * 1000)
        return times

    with ThreadPoolExecutor(len(models), "fastsam-tune") as pool:
        return [ms for times in pool.map(work, models) for ms in times]
