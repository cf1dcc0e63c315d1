"""Outlines of a mask through the centres of its outermost pixels, for programs that fill a polygon with its outline.

OpenCV's `fillPoly` (and so ultralytics' loader of labels) and Pillow's `polygon` (and so labelme) paint every pixel
that the outline passes through. An outline along the edges of pixels, as `polygons` gives it, would come back one pixel
too wide; one through the centres comes back exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from .polygons import Polygon, Ring, signed_area
from .seams import joined
from .simplify import simplified
from .store import Masks

Number = TypeVar("Number", np.int64, np.float64)

_BRIDGE_POINTS = 128
"""Corners of a ring, evenly spread, between which the shortest bridge is looked for."""


_FEWEST = 3
"""Corners of a ring."""


def centre_lines(masks: Masks, tolerance_px: float = 0.0) -> list[list[Polygon]]:
    """For each mask, a polygon for each of its parts. Pixels that touch diagonally belong to one part.

    Coordinates are numbers of pixels: (0, 0) is the centre of the first pixel. A part of one pixel has three equal
    corners, and a line of pixels has no area.

    Args:
        masks: n masks.
        tolerance_px: leave out corners that lie at most this far from the simplified outline, as in `Masks.polygons`.

    Raises:
        ParameterError: the tolerance is negative.

    Example:
        >>> ((part,),) = centre_lines(Masks.from_dense([[[1, 1, 1], [1, 0, 1], [1, 1, 1]]]))
        >>> part.outer.tolist(), [hole.tolist() for hole in part.holes]
        ([[0, 0], [2, 0], [2, 2], [0, 2]], [[[1, 0], [0, 1], [1, 2], [2, 1]]])
    """
    if not 0 <= tolerance_px < np.inf:
        raise ParameterError(f"tolerance_px is {tolerance_px}, expected 0 or more")
    exact = [_traced(crop, corner) for crop, corner in zip(masks.crops, masks.corners_xy, strict=True)]
    return [simplified(parts, tolerance_px) if tolerance_px > 0 else parts for parts in exact]


def in_one_ring(parts: Sequence[Polygon]) -> NDArray[np.float64]:
    """(k, 2) float64, one ring for a whole mask: holes are joined by seams, parts by bridges.

    A bridge is a line without width between near corners of two parts, passed in both directions. Programs that paint
    the outline show it as a line one pixel wide.

    Args:
        parts: one or more.

    Example:
        >>> left, right = centre_lines(Masks.from_dense([[[1, 0, 1]]]))[0]
        >>> in_one_ring([left, right]).tolist()
        [[0.0, 0.0], [2.0, 0.0], [2.0, 0.0]]
    """
    ring, *others = sorted(map(joined, parts), key=lambda line: -float(np.ptp(line, 0).prod()))
    ways = [_way(ring, other) for other in others]
    while others:  # the nearest part first: bridges are as short as they can be
        k = min(range(len(ways)), key=lambda i: ways[i].length)
        way, other = ways.pop(k), others.pop(k)
        here = int((ring == way.start).all(1).argmax())
        around = np.concatenate([other[way.end :], other[: way.end + 1]])
        ring = np.concatenate([ring[: here + 1], around, ring[here:]])
        ways = [min(known, _way(other, far), key=lambda w: w.length) for known, far in zip(ways, others, strict=True)]
    kept = ring[(ring != np.roll(ring, 1, 0)).any(1)]
    return _filled_up(kept if len(kept) else ring[:1])


def _traced(crop: NDArray[np.bool_], corner_xy: NDArray[np.int64]) -> list[Polygon]:
    lines, tree = cv2.findContours(crop.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not lines:
        return []
    parents = tree[0, :, 3].tolist()
    rings = [
        _oriented(line.reshape(-1, 2) + corner_xy, parent < 0) for line, parent in zip(lines, parents, strict=True)
    ]
    holes: dict[int, list[Ring]] = {i: [] for i, parent in enumerate(parents) if parent < 0}
    for ring, parent in zip(rings, parents, strict=True):
        if parent >= 0:
            holes[parent].append(ring)
    return [Polygon(rings[i], tuple(inner)) for i, inner in holes.items()]


def _oriented(line: NDArray[np.int64], outer: bool) -> Ring:
    """A ring of at least three corners: clockwise on a screen if it is an outer one, else the other way round."""
    ring = _filled_up(line)
    turned = ring if (signed_area(ring) > 0) == outer else ring[::-1]
    start = int(np.lexsort((turned[:, 0], turned[:, 1]))[0])
    return np.roll(turned, -start, 0)


def _filled_up(line: NDArray[Number]) -> NDArray[Number]:
    """The line with its last corner repeated until there are enough for a ring."""
    return np.concatenate([line, line[-1:].repeat(max(0, _FEWEST - len(line)), 0)])


@dataclass(frozen=True, eq=False)
class _Way:
    """A short way between corners of two rings: its length, the corner (x, y) of one, and the number of the other."""

    length: float
    start: NDArray[np.float64]
    end: int


def _way(ring: NDArray[np.float64], other: NDArray[np.float64]) -> _Way:
    step, other_step = (-(-len(line) // _BRIDGE_POINTS) for line in (ring, other))
    away = np.square(ring[::step, None] - other[::other_step]).sum(2)
    i, j = divmod(int(away.argmin()), away.shape[1])
    return _Way(float(away[i, j]), ring[i * step], j * other_step)
