"""Outlines of a mask as polygons, exact to the pixel.

Coordinates are edges of pixels, not centres: pixel (x, y) covers [x, x + 1] × [y, y + 1], so a square of 10 × 10 pixels
has corners 10 apart and an area of 100. COCO, shapely and SVG read polygons this way.

The outline runs along the edges of pixels, and only its corners are kept. In each row of the grid the corners pair up
into horizontal edges, in each column into vertical ones; following both in turn gives the rings. Where two pixels of
the mask touch only diagonally, two rings touch: the pixels belong to different polygons unless they are joined
elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.int64]
"""(k, 2) int64, corners (x, y) of a closed line, k ≥ 3; the first is not repeated at the end."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """One part of a mask and its holes. `shapely.Polygon(part.outer, part.holes)` takes it as it is.

    No ring crosses or touches itself. Different rings touch in single points at most.

    Attributes:
        outer: (k, 2) int64 corners (x, y) in pixels of the image, clockwise as seen on a screen.
        holes: rings inside `outer`, anticlockwise.

    Raises:
        ValueError: a ring has fewer than three corners.

    Example:
        >>> square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]])
        >>> Polygon(square, (np.array([[4, 4], [4, 6], [6, 6], [6, 4]]),)).area
        96.0
    """

    outer: Ring
    holes: tuple[Ring, ...] = ()

    def __post_init__(self) -> None:
        for ring in self.rings:
            if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
                raise ValueError(f"a ring has shape {ring.shape}; expected (k, 2), k of 3 or more")

    @property
    def rings(self) -> tuple[Ring, ...]:
        """`outer` and the holes."""
        return self.outer, *self.holes

    @property
    def area(self) -> float:
        """Area inside `outer` without the holes, square pixels."""
        return sum(map(signed_area, self.rings))


def signed_area(ring: NDArray[np.int64] | NDArray[np.float64]) -> float:
    """Area inside a ring, positive for an outer ring (clockwise on a screen), negative for a hole.

    Example:
        >>> signed_area(np.array([[0, 0], [2, 0], [2, 1]])), signed_area(np.array([[0, 0], [2, 1], [2, 0]]))
        (1.0, -1.0)
    """
    x, y = (ring - ring[0]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def outlines(crop: NDArray[np.bool_], corner_xy: NDArray[np.int64]) -> list[Polygon]:
    """The polygons of one mask, which cover its pixels exactly.

    Args:
        crop: (ch, cw) bool; what lies outside is background.
        corner_xy: (2,) int64, left and top edge of the crop in the image, pixels.

    Returns:
        A polygon for each part of the mask, where pixels that touch only diagonally are different parts; none for a
        mask without pixels.

    Example:
        >>> (part,) = outlines(np.ones((2, 3), bool), np.array([10, 20]))
        >>> part.outer.tolist()
        [[10, 20], [13, 20], [13, 22], [10, 22]]
    """
    if not crop.any():
        return []
    _, parts = cv2.connectedComponents(crop.view(np.uint8), connectivity=4)
    outer: dict[int, Ring] = {}
    holes: defaultdict[int, list[Ring]] = defaultdict(list)
    for ring in _rings(crop):
        part = int(parts[_pixel_beside(ring)])
        if signed_area(ring) > 0:
            outer[part] = ring + corner_xy
        else:
            holes[part].append(ring + corner_xy)
    return [Polygon(ring, tuple(holes[part])) for part, ring in outer.items()]


def _pixel_beside(ring: Ring) -> tuple[int, int]:
    """(y, x) of a pixel of the mask at the first horizontal edge of a ring: on the right of its direction."""
    (x1, y1), (x2, y2), (x3, _) = ring[:3].tolist()
    if y1 != y2:  # the first edge is vertical
        x1, y1, x2 = x2, y2, x3
    return (y1, x1) if x2 > x1 else (y1 - 1, x1 - 1)


def _rings(crop: NDArray[np.bool_]) -> Iterator[Ring]:
    """Closed lines round the pixels, which lie on the right of their direction; none meets itself."""
    xs, ys, order = _corners(crop)
    across = np.arange(len(xs)) ^ 1  # 0 and 1, 2 and 3, …: the corners are in the order of rows
    columns = np.lexsort((order, ys, xs))
    along = np.empty_like(across)
    along[columns] = columns[across]
    # The line goes right where the mask is below the edge, else left.
    left_ends = np.arange(0, len(xs), 2)
    below = np.zeros(len(left_ends), np.bool_)
    inside = ys[left_ends] < crop.shape[0]
    below[inside] = crop[ys[left_ends][inside], xs[left_ends][inside]]
    starts = np.where(below, left_ends, left_ends + 1)
    ends, follows = across.tolist(), along[across].tolist()
    points, seen = list(zip(xs.tolist(), ys.tolist(), strict=True)), bytearray(len(xs))
    for start in starts.tolist():
        line, corner = [], start
        while not seen[corner]:
            seen[corner] = True
            line += [points[corner], points[ends[corner]]]
            corner = follows[corner]
        if line:
            yield from (np.array(ring, np.int64) for ring in _without_touches(line))


def _corners(crop: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Corners of the outline row by row: x, y, and the order in their column of two at one place.

    Where pixels touch diagonally there are two corners, one for each pixel. The first has the edge to the left; its
    other edge is the upper one if its pixel is, and the lower one otherwise.
    """
    padded = np.pad(crop, 1)
    above, below = padded[:-1], padded[1:]
    turns = above[:, :-1] ^ above[:, 1:] ^ below[:, :-1] ^ below[:, 1:]
    falling = above[:, :-1] & below[:, 1:] & ~above[:, 1:] & ~below[:, :-1]
    rising = above[:, 1:] & below[:, :-1] & ~above[:, :-1] & ~below[:, 1:]
    ys, xs = np.nonzero(turns | falling | rising)
    times = np.where((falling | rising)[ys, xs], 2, 1)
    second = np.arange(times.sum()) - np.repeat(times.cumsum() - times, times)
    return np.repeat(xs, times), np.repeat(ys, times), second ^ np.repeat(rising[ys, xs], times)


def _without_touches(line: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """A closed line cut into lines that pass each point once."""
    if len(set(line)) == len(line):
        yield line
        return
    path: list[tuple[int, int]] = []
    places: dict[tuple[int, int], int] = {}
    for point in line:
        if point in places:
            first = places[point]
            yield path[first:]
            for gone in path[first + 1 :]:
                del places[gone]
            del path[first + 1 :]
        else:
            places[point] = len(path)
            path.append(point)
    yield path
