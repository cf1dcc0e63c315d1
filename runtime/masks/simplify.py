"""Polygons with fewer corners that stay valid: no ring meets itself or another, and none is lost.

Douglas-Peucker works on one ring and knows nothing of the others. Rings that are in conflict afterwards are simplified
again to half the distance, until nothing is in conflict; at the latest when they are as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .polygons import Polygon, Ring, signed_area

_SHORTEST_PX = 0.25
"""Below it, a staircase of pixels keeps all its corners."""

_BLOCK = 128
"""Edges that are compared with all others at once."""


def simplified(polygons: Sequence[Polygon], tolerance_px: float) -> list[Polygon]:
    """The polygons of one mask with fewer corners.

    Args:
        polygons: as `polygons.outlines` gives them.
        tolerance_px: the corners that are left out lie at most this far from the new edges. Less where rings would meet
            or vanish otherwise.

    Example:
        >>> steps = np.array([[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [3, 2], [3, 3], [0, 3]])
        >>> simplified([Polygon(steps)], 1.0)[0].outer.tolist()
        [[0, 0], [3, 3], [0, 3]]
    """
    exact = [ring for polygon in polygons for ring in polygon.rings]
    owners = [i for i, polygon in enumerate(polygons) for _ in polygon.rings]
    rings = list(exact)
    distances = [float(tolerance_px)] * len(exact)
    wrong = set(range(len(exact)))
    while wrong:
        for i in wrong:
            rings[i] = _shortened(exact[i], distances[i])
            distances[i] = distances[i] / 2 if distances[i] >= _SHORTEST_PX else 0.0
        wrong = {i for i in _in_conflict(rings, owners) if rings[i] is not exact[i]}
    results = []
    first = 0
    for polygon in polygons:
        outer, *holes = rings[first : first + len(polygon.rings)]
        results.append(Polygon(outer, tuple(holes)))
        first += len(polygon.rings)
    return results


def _shortened(ring: Ring, distance: float) -> Ring:
    if distance < _SHORTEST_PX:
        return ring
    corners = cv2.approxPolyDP(ring.astype(np.int32).reshape(-1, 1, 2), distance, True)
    return np.asarray(corners.reshape(-1, 2), np.int64)


def _in_conflict(rings: Sequence[Ring], owners: Sequence[int]) -> set[int]:
    """Numbers of the rings that have lost their area, meet themselves or another, or lie on the wrong side of one."""
    # Of outlines, the first ring of each owner is the outer one.
    outer = [i == 0 or owners[i] != owners[i - 1] for i in range(len(rings))]
    flat = {i for i, ring in enumerate(rings) if len(ring) < 3 or (signed_area(ring) > 0) != outer[i]}
    flat |= {i for i, ring in enumerate(rings) if len(ring) >= 3 and signed_area(ring) == 0}
    sound = [i for i in range(len(rings)) if i not in flat]
    crossing = {i for pair in _meetings([rings[i] for i in sound]) for i in (sound[pair[0]], sound[pair[1]])}
    return flat | crossing | _misplaced(rings, owners, outer, [i for i in sound if i not in crossing])


def _misplaced(rings: Sequence[Ring], owners: Sequence[int], outer: Sequence[bool], sound: Sequence[int]) -> set[int]:
    """Rings among those that meet no other whose surroundings have changed: a hole outside, an island not in a hole."""
    if not sound:
        return set()
    low, high = (np.array([limit(rings[i], axis=0) for i in sound]) for limit in (np.min, np.max))
    within = (low[:, None] >= low).all(2) & (high[:, None] <= high).all(2) & ~np.eye(len(sound), dtype=bool)
    wrong = set[int]()
    for i, candidates in zip(sound, within, strict=True):
        around = [sound[j] for j in np.flatnonzero(candidates).tolist() if _holds(rings[sound[j]], rings[i])]
        depth = sum(1 if outer[j] else -1 for j in around)
        if depth != (0 if outer[i] else 1):
            wrong |= {i, *around, *(j for j in sound if owners[j] == owners[i])}
    return wrong


def _holds(ring: Ring, other: Ring) -> bool:
    """Whether a ring lies inside one that it does not cross."""
    contour = ring.astype(np.float32).reshape(-1, 1, 2)
    middles = (other + np.roll(other, -1, 0)) / 2
    for x, y in (*other.tolist(), *middles.tolist()):
        side = cv2.pointPolygonTest(contour, (float(x), float(y)), False)
        if side:  # 0: on the ring, where the two touch
            return bool(side > 0)
    return False


def _meetings(rings: Sequence[Ring]) -> Iterator[tuple[int, int]]:
    """Pairs of rings that meet, a ring with itself included. Two that touch in a corner of both do not."""
    if not rings:
        return
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(ring, -1, 0) for ring in rings])
    ring_of = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    for first, second in _close_pairs(starts, ends):
        same = ring_of[first] == ring_of[second]
        follow = same & ((ends[first] == starts[second]).all(1) | (ends[second] == starts[first]).all(1))
        meet = _meet(starts[first], ends[first], starts[second], ends[second])
        back = (_side(starts[first], ends[first], starts[second]) == 0) & (
            _side(starts[first], ends[first], ends[second]) == 0
        )
        # Edges that follow one another share a corner, and must not turn back on themselves. A ring passes no corner
        # twice: it has corners of an outline, which does not.
        wrong = meet & np.where(follow, back, True)
        for i, j in zip(first[wrong].tolist(), second[wrong].tolist(), strict=True):
            a, b = int(ring_of[i]), int(ring_of[j])
            if a == b or not _touch(starts[i], ends[i], starts[j], ends[j], rings[a], rings[b]):
                yield a, b


def _close_pairs(
    starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Numbers of edges whose surrounding boxes touch, each pair once."""
    order = np.argsort(np.minimum(starts[:, 0], ends[:, 0]), kind="stable")
    low, high = np.minimum(starts, ends)[order], np.maximum(starts, ends)[order]
    for first in range(0, len(order), _BLOCK):
        rows = slice(first, first + _BLOCK)
        last = int(np.searchsorted(low[:, 0], high[rows, 0].max(), side="right"))
        others = slice(first, last)
        near = low[None, others, 0] <= high[rows, None, 0]  # they begin no further left, as they are sorted
        near &= low[None, others, 1] <= high[rows, None, 1]
        near &= high[None, others, 1] >= low[rows, None, 1]
        i, j = np.nonzero(np.triu(near, 1))
        yield order[i + first], order[j + first]


def _side(a: NDArray[np.int64], b: NDArray[np.int64], c: NDArray[np.int64]) -> NDArray[np.int64]:
    """On which side of the line from a to b is c: -1, 0 or 1."""
    (abx, aby), (acx, acy) = (b - a).T, (c - a).T
    side: NDArray[np.int64] = np.sign(abx * acy - aby * acx)
    return side


def _meet(a: NDArray[np.int64], b: NDArray[np.int64], c: NDArray[np.int64], d: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether edges a to b and c to d, whose boxes touch, have a point in common."""
    apart = (_side(a, b, c) * _side(a, b, d) > 0) | (_side(c, d, a) * _side(c, d, b) > 0)
    return np.logical_not(apart)


def _touch(a: Ring, b: Ring, c: Ring, d: Ring, ring: Ring, other: Ring) -> bool:
    """Whether edges a to b and c to d of two rings have only a corner in common, in which the rings do not cross."""
    shared = {tuple(a.tolist()), tuple(b.tolist())} & {tuple(c.tolist()), tuple(d.tolist())}
    if len(shared) != 1:
        return False
    corner = np.array(shared.pop())
    far, farther = (b if (a == corner).all() else a) - corner, (d if (c == corner).all() else c) - corner
    if far[0] * farther[1] == far[1] * farther[0] and far @ farther > 0:
        return False  # one lies on the other
    return not _cross_at(corner, ring, other)


def _cross_at(corner: NDArray[np.int64], ring: Ring, other: Ring) -> bool:
    """Whether one ring passes to the other side of another in a corner of both."""
    angles = []
    for line in (ring, other):
        at = int((line == corner).all(1).argmax())
        for neighbour in (line[at - 1], line[(at + 1) % len(line)]):
            x, y = (neighbour - corner).tolist()
            angles.append(float(np.arctan2(y, x)))
    low, high = sorted(angles[:2])
    return (low < angles[2] < high) != (low < angles[3] < high)
