"""Coordinates that people give: rows of numbers, and whether they lie in the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PromptError


def rows_of_numbers(values: ArrayLike, width: int, what: str, example: str) -> NDArray[np.float64]:
    """(m, width) float64 of one row or several, finite.

    >>> rows_of_numbers([3, 4], 2, "points", "[[x, y], …]")
    array([[3., 4.]])

    Args:
        what: the rows are called, and `example` of how they are written, for messages.

    Raises:
        PromptError: they are not.
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what}: {values!r:.80} are not numbers; expected {example}") from error
    rows = array[None] if array.ndim == 1 and array.size else array
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise PromptError(f"{what} have shape {array.shape}; expected {example}, at least one")
    if not np.isfinite(rows).all():
        raise PromptError(f"{what} hold a value that is not finite: {rows.tolist()!r:.80}; expected {example}")
    return rows


def check_points_inside(xy: NDArray[np.float64], image_hw: tuple[int, int], what: str = "point") -> None:
    """PromptError for the first of (m, 2) points that lies in no pixel of an image of (h, w) pixels.

    Args:
        what: a point is called in the message.
    """
    height, width = image_hw
    outside = np.flatnonzero(~((xy >= 0) & (xy < (width, height))).all(1))
    if len(outside):
        x, y = xy[outside[0]].tolist()
        raise PromptError(
            f"{what} {outside[0]} is at ({x:g}, {y:g}), the image has x in [0, {width}) and y in [0, {height}); "
            "give points in pixels of the original image"
        )
