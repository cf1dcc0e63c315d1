"""Coordinates from users: rows of numbers, and the check that points are inside the image.

Other programs round: a detector's box ends 0.0001 px beyond the image, a click on the last column has x = width. What
is less than a pixel outside is therefore taken, and belongs to the nearest pixel of the image. -1 is refused, as many
programs write it for "no value".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PromptError


def rows_of_numbers(values: ArrayLike, width: int, what: str, example: str) -> NDArray[np.float64]:
    """One row or several as an (m, width) float64 array of finite numbers.

    Args:
        values: one row of `width` numbers, or m rows.
        width: numbers in a row.
        what: name of the rows, for messages.
        example: how to write the rows, for messages.

    Raises:
        PromptError: the values are not finite numbers, or the shape does not fit.

    Example:
        >>> rows_of_numbers([3, 4], 2, "points", "[[x, y], …]")
        array([[3., 4.]])
    """
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what}: {values!r:.80} are not numbers; expected {example}") from error
    rows = array[None] if array.ndim == 1 and array.size else array
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise PromptError(f"{what} have shape {array.shape}; expected {example}, at least one")
    if not np.isfinite(rows).all():
        raise PromptError(f"{what} contain a value that is not finite: {rows.tolist()!r:.80}; expected {example}")
    return rows


def are_inside(xy: NDArray[np.float64], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """(m,) bool: is a point inside an image of (h, w) pixels, or less than a pixel outside?

    Args:
        xy: (m, 2) float64, pixels of the image.
        image_hw: (h, w) of the image.

    Example:
        >>> are_inside(np.array([[3.0, 8.0], [16.5, 0.0], [-1.0, 0.0]]), (8, 16))
        array([ True,  True, False])
    """
    height, width = image_hw
    near: NDArray[np.bool_] = np.asarray(((xy > -1) & (xy < (width + 1, height + 1))).all(1))
    return near


def pixels_at(xy: NDArray[np.float64], image_hw: tuple[int, int]) -> NDArray[np.int64]:
    """(m, 2) int64, the pixel (x, y) that each point is in; the nearest one for a point outside.

    Args:
        xy: (m, 2) float64, pixels of the image.
        image_hw: (h, w) of the image.

    Example:
        >>> pixels_at(np.array([[3.9, 8.0], [-0.5, 0.0]]), (8, 16)).tolist()
        [[3, 7], [0, 0]]
    """
    height, width = image_hw
    return np.floor(xy).clip(0, (width - 1, height - 1)).astype(np.int64)


def check_points_inside(xy: NDArray[np.float64], image_hw: tuple[int, int], what: str = "point") -> None:
    """Raise PromptError for the first of (m, 2) points that is a pixel or more outside an image of (h, w) pixels.

    A kind that looks at single pixels takes them from `pixels_at`, which has none outside.

    Args:
        xy: (m, 2) float64, pixels of the image.
        image_hw: (h, w) of the image.
        what: name of a point, for the message.

    Example:
        >>> check_points_inside(np.array([[3.0, 9.0]]), (8, 16))
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.PromptError: point 0 is at (3, 9), the image has x in [0, 16) and y in [0, 8); \
give points in pixels of the original image
    """
    height, width = image_hw
    outside = np.flatnonzero(~are_inside(xy, image_hw))
    if len(outside):
        x, y = xy[outside[0]].tolist()
        raise PromptError(
            f"{what} {outside[0]} is at ({x:g}, {y:g}), the image has x in [0, {width}) and y in [0, {height}); "
            "give points in pixels of the original image"
        )
