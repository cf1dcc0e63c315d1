"""The borders of a mask as polygons."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def borders(
    crop: NDArray[np.bool_], corner_xy: NDArray[np.int64], tolerance_px: float = 0.0
) -> list[NDArray[np.int64]]:
    """Outer and inner borders of one mask: (k, 2) int64 points (x, y), pixels of the image.

    Args:
        crop: (ch, cw) bool; what lies outside is background.
        corner_xy: (2,) int64, left and top edge of the crop in the image, pixels.
        tolerance_px: simplify with Douglas-Peucker to this distance; 0 keeps every corner.

    Example:
        >>> (border,) = borders(np.ones((2, 3), bool), np.array([10, 20]))
        >>> border.tolist()
        [[10, 20], [10, 21], [12, 21], [12, 20]]
    """
    if not crop.size:
        return []
    contours, _ = cv2.findContours(crop.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if tolerance_px > 0:
        contours = [cv2.approxPolyDP(contour, tolerance_px, True) for contour in contours]
    return [contour.reshape(-1, 2).astype(np.int64) + corner_xy for contour in contours]
