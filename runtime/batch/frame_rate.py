"""The constant rate of a video that shows frames at given times."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

_SHARES = (50, 25, 10, 5, 1, 0)
_IN_STEP_S = 0.05
_HIGHEST_FPS = 240.0
_MPEG4_LIMIT = 65535


def constant_rate(times_s: NDArray[np.float64], fps: float) -> float:
    """The lowest of a few rates at which frames that are repeated until the next one stay within 0.05 s of their times.

    Args:
        times_s: (frames,) ascending, seconds.
        fps: tried first: the average rate, which a video with a constant rate keeps.

    Returns:
        Frames per second. If none of the rates is enough, the highest.

    Example:
        >>> constant_rate(np.array([0.0, 0.1, 0.2, 1.2]), fps=3.0)
        10.0
    """
    gaps_s = np.diff(times_s)
    gaps_s = gaps_s[gaps_s > 0]
    if not len(gaps_s):
        return fps
    rate = fps
    rates = (round(min(1 / float(np.percentile(gaps_s, share)), _HIGHEST_FPS), 3) for share in _SHARES)
    for rate in (fps, *rates):
        if np.abs(slots_at(times_s, rate) / rate - times_s).max() <= _IN_STEP_S:
            break
    return rate


def slots_at(times_s: NDArray[np.float64], rate: float) -> NDArray[np.int64]:
    """Where frames stand in a video with a constant rate: nearest to their times, each after the one before it.

    Args:
        times_s: (frames,) ascending, seconds.
        rate: frames per second.

    Returns:
        (frames,) int64, strictly ascending.

    Example:
        >>> slots_at(np.array([0.0, 0.1, 0.12, 1.0]), rate=10.0).tolist()
        [0, 1, 2, 10]
    """
    numbers = np.arange(len(times_s))
    return np.asarray(np.maximum.accumulate(np.rint(times_s * rate).astype(np.int64) - numbers) + numbers)


def mpeg4_rate(fps: float) -> float:
    """The nearest rate, not below `fps`, that the MPEG-4 encoder takes from OpenCV.

    OpenCV writes a rate as a fraction over 1, 10, 100 or 1000 that is within 0.001 of it. The encoder takes numerators
    up to 65535. Not below: frames that are written at their times then have room.

    Example:
        >>> mpeg4_rate(29.97), mpeg4_rate(66.667), mpeg4_rate(211.222)
        (29.97, 66.67, 211.23)
    """
    base = 1
    while abs(round(fps * base) / base - fps) > 0.001:
        if round(fps * base * 10) > _MPEG4_LIMIT:
            return ceil(fps * base) / base
        base *= 10
    return fps
