"""Gaps and specks of a mask, closed and removed as FastSAM does it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

STEPS: tuple[tuple[bool, tuple[int, int]], ...] = (
    (True, (1, 1)),
    (False, (1, 1)),
    (False, (4, 3)),
    (True, (3, 4)),
)
"""Whether the mask grows, and by a square of how many pixels before and after each pixel. 3 x 3 closes gaps, 8 x 8
removes specks. The sizes are those of CASIA-IVA-Lab/FastSAM, `fastsam/prompt.py`."""

MARGIN_PX = 8
"""With a margin of background as wide as the squares, a crop gives the same result as the whole image."""


def clean_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close gaps (3 x 3), then remove specks (8 x 8), as FastSAM's better_quality does. An empty result is not used.

    Args:
        mask: (h, w) bool.

    Returns:
        (h, w) bool; the mask itself if nothing would remain of it.

    Example:
        >>> mask = np.zeros((20, 20), bool)
        >>> mask[2:14, 2:14], mask[18, 18] = True, True
        >>> int(mask.sum()), int(clean_mask(mask).sum())
        (145, 144)
    """
    pixels = mask.view(np.uint8)
    for grows, (before, after) in STEPS:
        side = before + 1 + after
        # Not MORPH_OPEN: with a kernel of even size it uses one anchor for both steps and shifts the mask by a pixel.
        step = cv2.dilate if grows else cv2.erode
        pixels = step(pixels, np.ones((side, side), np.uint8), anchor=(before, before))
    cleaned: NDArray[np.bool_] = pixels.view(np.bool_)
    return cleaned if cleaned.any() else mask
