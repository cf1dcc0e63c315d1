"""How alike the segments of two tiles are, on what both of them show."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..masks.overlap import shared_pixels
from ..masks.store import Masks

_CELLS = 8
"""A window is divided into this many rows and columns of cells, to rule out most pairs without looking at pixels."""


@dataclass(frozen=True, eq=False)
class Window:
    """Masks of one tile as a window of the image shows them.

    Attributes:
        crops: (ch, cw) bool of each mask, cut at the window.
        corners_xy: (n, 2) int64, left and top edge of each crop in the window, pixels.
        counts: (n, cells) int32, pixels of each mask in each cell of the window.

    Example:
        >>> masks = Masks.from_dense(np.ones((1, 4, 6), bool))
        >>> seen_through(masks, np.array([4, 0, 8, 4])).areas.tolist()
        [8]
    """

    crops: list[NDArray[np.bool_]]
    corners_xy: NDArray[np.int64]
    counts: NDArray[np.int32]

    @property
    def areas(self) -> NDArray[np.int64]:
        """(n,) int64, pixels of each mask in the window."""
        return np.asarray(self.counts.sum(1))


def seen_through(masks: Masks, window_xyxy: NDArray[np.int64]) -> Window:
    """The masks as they are in a window of their image.

    Args:
        masks: n masks.
        window_xyxy: (4,), pixels of the image, right and bottom exclusive.

    Example:
        >>> seen_through(Masks.empty((4, 6)), np.array([0, 0, 2, 2])).counts.shape
        (0, 64)
    """
    left, top, right, bottom = window_xyxy.tolist()
    starts = masks.corners_xy - (left, top)
    crops = [
        crop[max(0, -y) : max(0, bottom - top - y), max(0, -x) : max(0, right - left - x)]
        for crop, (x, y) in zip(masks.crops, starts.tolist(), strict=True)
    ]
    corners = starts.clip(0)
    rows, columns = (np.arange(_CELLS + 1) * side // _CELLS for side in (bottom - top, right - left))
    counts = np.zeros((len(crops), _CELLS * _CELLS), np.int32)
    for i, (crop, (x, y)) in enumerate(zip(crops, corners.tolist(), strict=True)):
        if crop.size:
            counts[i] = _cell_counts(crop, rows - y, columns - x)
    return Window(crops, corners, counts)


def alike(window: Window, other: Window, at_least: float) -> list[tuple[int, int, int]]:
    """Pairs of masks whose IoU in a window is at least a limit.

    Args:
        window, other: the masks of two tiles in the same window.
        at_least: smallest IoU, (0, 1].

    Returns:
        (mask of `window`, mask of `other`, pixels that both have), in this order; masks without a pixel in the window
        are in no pair.

    Example:
        >>> masks = Masks.from_dense(np.ones((1, 4, 6), bool))
        >>> window = seen_through(masks, np.array([4, 0, 8, 4]))
        >>> alike(window, window, 0.8)
        [(0, 0, 8)]
    """
    areas = window.areas[:, None] + other.areas
    pairs = []
    for i, count in enumerate(window.counts):
        at_most = np.minimum(count, other.counts).sum(1)  # the masks of a pair share no more than this in any cell
        for j in np.flatnonzero((at_most > 0) & (at_most >= at_least * (areas[i] - at_most))).tolist():
            shared = shared_pixels(window.crops[i], window.corners_xy[i], other.crops[j], other.corners_xy[j])
            if shared >= at_least * (areas[i, j] - shared):
                pairs.append((i, j, shared))
    return pairs


def _cell_counts(crop: NDArray[np.bool_], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int32]:
    """(cells,) int32, pixels between neighbouring rows and columns, counted from the left top corner of the crop."""
    height, width = crop.shape
    sums = cv2.integral(np.ascontiguousarray(crop).view(np.uint8))[
        rows.clip(0, height)[:, None], columns.clip(0, width)
    ]
    below = sums[1:] - sums[:-1]
    return np.asarray((below[:, 1:] - below[:, :-1]).reshape(-1))
