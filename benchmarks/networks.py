"""Networks alone, without what is around them: files and settings that run in turn in one process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime import EngineSettings
from fastsam_deploy.runtime.engines import open_engine

_NOT_COUNTED = 2
"""First rounds: memory is made, clocks settle."""


def network_ms(
    ways: Mapping[str, tuple[Path, EngineSettings]], images: NDArray[np.float32], rounds: int
) -> dict[str, NDArray[np.float64]]:
    """Name of a way → (rounds,) milliseconds of a run; every other round has the opposite order."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    with ExitStack() as stack:
        engines = {name: stack.enter_context(open_engine(*way)) for name, way in ways.items()}
        for turn in range(rounds + _NOT_COUNTED):
            for name in sorted(engines, reverse=turn % 2 == 0):
                start = perf_counter()
                engines[name].run(images)
                if turn >= _NOT_COUNTED:
                    spent[name].append((perf_counter() - start) * 1000)
    return {name: np.array(values) for name, values in spent.items()}
