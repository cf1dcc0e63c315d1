"""Masks painted into one picture of numbers, where the smallest lies on top."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .store import Masks

Number = TypeVar("Number", np.uint8, np.uint16)


def painted(masks: Masks, numbers: NDArray[Number]) -> NDArray[Number]:
    """At each pixel the number of the smallest mask there; of masks of equal area, of the first. 0 outside all masks.

    Args:
        masks: n masks. They are painted crop by crop.
        numbers: (n,) uint8 or uint16.

    Returns:
        (h, w), as `numbers`.

    Example:
        >>> painted(Masks.from_dense([[[1, 1, 1, 0]], [[0, 1, 0, 0]]]), np.array([7, 9], np.uint8))
        array([[7, 9, 7, 0]], dtype=uint8)
    """
    labels = np.zeros(masks.image_hw, numbers.dtype)
    for i in np.lexsort((np.arange(len(masks)), masks.areas))[::-1].tolist():
        crop = masks.crops[i]
        x, y = masks.corners_xy[i].tolist()
        np.copyto(labels[y : y + crop.shape[0], x : x + crop.shape[1]], numbers[i], where=crop)
    return labels
