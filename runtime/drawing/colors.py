"""Colours of segments: by row, class, prompt, or by numbers that the caller has, such as those of tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError
from ..formats import NO_PROMPT, NO_TRACK, Columns

if TYPE_CHECKING:
    from collections.abc import Callable

_GOLDEN_RATIO = 0.618033988749895
_UNPROMPTED = (128, 128, 128)

COLOR_BY = ("rank", "class", "prompt", "track")
"""What can choose the colour of a segment, besides numbers of the caller."""


def distinct_colors(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Colours that are easy to tell apart, above all neighbours in the list. Colour i does not depend on `count`.

    Args:
        count: number of colours.
        seed: another seed gives other colours.

    Returns:
        (count, 3) uint8 RGB.

    Example:
        >>> distinct_colors(2).tolist()
        [[255, 231, 38], [193, 102, 255]]
    """
    return _colors_of(np.arange(count), seed)


def segment_colors(columns: Columns, color_by: str | ArrayLike = "rank") -> NDArray[np.uint8]:
    """The colour of each segment.

    Args:
        columns: n segments.
        color_by: "rank": each row another one. "class", "prompt" and "track": rows of the same class, prompt or track
            have the same one; rows without a prompt or a track are grey. Or n whole numbers: each has its colour in
            every picture.

    Returns:
        (n, 3) uint8 RGB.

    Raises:
        ParameterError: another word, or not n whole numbers of 0 or more.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> segment_colors(Segments.empty((4, 5)), "class").shape
        (0, 3)
    """
    n = len(columns.scores)
    numbers_by: dict[str, Callable[[], NDArray[np.int64]]] = {
        "rank": lambda: np.arange(n),
        "class": lambda: columns.classes,
        "prompt": lambda: columns.prompts,
        "track": lambda: columns.track_ids,
    }
    if isinstance(color_by, str):
        if color_by not in numbers_by:
            raise ParameterError(f"color_by is {color_by!r}, expected one of {', '.join(COLOR_BY)}, or {n} numbers")
        numbers = numbers_by[color_by]()
        colors = _colors_of(numbers.clip(0))
        colors[numbers == (NO_TRACK if color_by == "track" else NO_PROMPT)] = _UNPROMPTED
        return colors
    given: NDArray[Any] = np.asarray(color_by)
    if given.shape != (n,) or (n and (given.dtype.kind not in "iu" or given.min() < 0)):
        raise ParameterError(f"color_by is {given.dtype} {given.shape}, expected ({n},) whole numbers of 0 or more")
    return _colors_of(given)


def _colors_of(numbers: NDArray[np.integer[Any]], seed: int = 0) -> NDArray[np.uint8]:
    i = numbers + 1.0
    hue = (0.53 + seed * 0.137 + i * _GOLDEN_RATIO) % 1.0
    # Hues alone look alike after a dozen, so saturation and brightness alternate with other periods.
    saturation = np.array([0.85, 0.6, 1.0])[numbers % 3]
    value = np.array([1.0, 0.8])[numbers // 3 % 2]
    hsv = np.stack([hue * 360, saturation, value], -1).astype(np.float32)
    rgb = np.zeros((len(numbers), 3), np.uint8)
    rgb[:] = np.rint(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * 255) if len(numbers) else 0
    return rgb
