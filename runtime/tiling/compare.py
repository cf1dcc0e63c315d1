"""How alike the segments of two tiles are, on what both of them show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..masks.overlap import shared_in_pairs
from ..masks.store import Masks


def alike(
    masks: Masks, others: Masks, window_xyxy: NDArray[np.int64], at_least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of masks whose IoU in a window is at least a limit.

    Args:
        masks, others: of two tiles, in the same image.
        window_xyxy: (4,) int64, what both tiles show; pixels of the image, right and bottom exclusive.
        at_least: smallest IoU, (0, 1].

    Returns:
        (p, 2) int64, a row of `masks` and one of `others`, in this order, and (p,) int64, the pixels that both have.
        Masks without a pixel in the window are in no pair.

    Example:
        >>> masks = Masks.from_dense(np.ones((1, 4, 6), bool))
        >>> pairs, shared = alike(masks, masks, np.array([4, 0, 8, 4]), 0.8)
        >>> pairs.tolist(), shared.tolist()
        ([[0, 0]], [8])
    """
    areas, other_areas = (side.box_overlap(window_xyxy[None])[:, 0] for side in (masks, others))
    together = areas[:, None] + other_areas
    at_most = np.minimum(areas[:, None], other_areas)  # of the pixels that a pair can share
    i, j = np.nonzero((at_most > 0) & (at_most >= at_least * (together - at_most)))
    together = together[i, j]
    at_most = np.minimum(at_most[i, j], _in_both_crops(masks, i, others, j))
    likely = at_most >= at_least * (together - at_most)
    pairs, together = np.stack([i[likely], j[likely]], 1), together[likely]
    shared = shared_in_pairs(masks, others, pairs, window_xyxy)
    same = shared >= at_least * (together - shared)
    return pairs[same], shared[same]


def _in_both_crops(masks: Masks, i: NDArray[np.int64], others: Masks, j: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pixels that the crops of each pair have in common, (p,) int64."""
    start = np.maximum(masks.corners_xy[i], others.corners_xy[j])
    end = np.minimum((masks.corners_xy + masks.sizes_wh)[i], (others.corners_xy + others.sizes_wh)[j])
    return np.asarray((end - start).clip(0).prod(1))
