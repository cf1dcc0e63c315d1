"""A polygon with holes as one ring, for formats that know no holes (COCO).

Each hole is joined to what lies on its left by a seam: a line without width that is passed in both directions. It adds
nothing to the area, whichever rule fills the ring. Programs that also draw the outline show the seam.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .polygons import Polygon


def joined(polygon: Polygon) -> NDArray[np.float64]:
    """(k, 2) float64, corners (x, y) of one ring that covers the polygon without its holes.

    Example:
        >>> outer = np.array([[0, 0], [9, 0], [9, 9], [0, 9]])
        >>> hole = np.array([[3, 3], [3, 6], [6, 6], [6, 3]])
        >>> joined(Polygon(outer, (hole,))).tolist()  # doctest: +NORMALIZE_WHITESPACE
        [[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0], [0.0, 3.0], [3.0, 3.0], [3.0, 6.0], [6.0, 6.0], [6.0, 3.0],
         [3.0, 3.0], [0.0, 3.0]]
    """
    ring = polygon.outer.astype(np.float64)
    # From left to right, so that what a seam runs into has been joined already.
    for hole in sorted(polygon.holes, key=lambda line: int(line[:, 0].min())):
        start = int(hole[:, 0].argmin())
        line = np.concatenate([hole[start:], hole[: start + 1]]).astype(np.float64)
        edge, x = _left_of(ring, line[0])
        seam = np.array([[x, line[0, 1]]])
        ring = np.concatenate([ring[: edge + 1], seam, line, seam, ring[edge + 1 :]])
    return ring


def _left_of(ring: NDArray[np.float64], point: NDArray[np.float64]) -> tuple[int, float]:
    """The nearest edge of a ring to the left of a point, and the x at which it has the point's y."""
    (x1, y1), (x2, y2) = ring.T, np.roll(ring, -1, 0).T
    x, y = point
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = x1 + (y - y1) * (x2 - x1) / (y2 - y1)
    hit = (np.minimum(y1, y2) <= y) & (y <= np.maximum(y1, y2)) & (y1 != y2) & (crossings <= x)
    edge = int(np.where(hit, crossings, -np.inf).argmax())
    return edge, float(crossings[edge])
