"""Segments of overlapping tiles → segments of the image.

A segment that reaches an edge of its tile inside the image may be a piece of something larger; any other one is whole.

1. A segment whose score is not above the threshold counts only if another tile has one that is alike.
2. Of whole segments that are alike, the one with the highest score stays.
3. A piece that is like a whole segment which covers it is left out.
4. Pieces that are alike are pieces of one thing: they are joined.
5. Segments of the whole image, which are coarse, are added where none of the tiles is alike.

Alike are segments of the same class and different tiles whose IoU is at least `merge_iou`, counted on the pixels that
both tiles show. Everything is done in the order of scores, then of tiles, so that the same image always gives the same
answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..masks.overlap import mask_ious
from ..masks.store import PackedMasks, concatenate
from ..segments import Segments, join
from .compare import alike, seen_through

_COVERED = 0.8
"""Share of a piece that lies in a whole segment which shows it too."""


@dataclass(frozen=True, eq=False)
class Part:
    """The segments of one tile, in the coordinates of the image.

    Attributes:
        segments: with masks and boxes in the image.
        tile_xyxy: (4,) int64, the tile; right and bottom exclusive.
        margin_px: a mask that comes this near to an edge of the tile reaches it.

    Example:
        >>> part = Part(Segments.empty((100, 250)), np.array([0, 0, 100, 100]), 2)
        >>> len(merged([part]))
        0
    """

    segments: Segments
    tile_xyxy: NDArray[np.int64]
    margin_px: int


def placed(segments: Segments, tile_xyxy: NDArray[np.int64], image_hw: tuple[int, int]) -> Segments:
    """The segments of a tile in the coordinates of the image.

    Example:
        >>> placed(Segments.empty((100, 100)), np.array([150, 0, 250, 100]), (100, 250)).image_hw
        (100, 250)
    """
    masks = segments.masks.in_host_memory()
    moved = PackedMasks(image_hw, masks.crops, masks.corners_xy + tile_xyxy[:2])
    boxes = (segments.boxes_xyxy + np.tile(tile_xyxy[:2], 2)).astype(np.float32)
    return replace(segments, boxes_xyxy=boxes, masks=moved, features=None)


def merged(parts: Sequence[Part], whole: Segments | None = None, merge_iou: float = 0.8, conf: float = 0.0) -> Segments:
    """The segments of an image.

    Args:
        parts: the tiles, one or more.
        whole: segments of the whole image at once; None: there are none.
        merge_iou: see `Tiles`.
        conf: a segment of one tile alone needs a score above it.

    Returns:
        Segments by score, the highest first. A joined one has the score and the class of its best piece, and a box
        around all of them.

    Example:
        >>> merged([Part(Segments.empty((100, 250)), np.array([0, 0, 100, 100]), 2)]).image_hw
        (100, 250)
    """
    pool = _Pool(parts, merge_iou, conf)
    kept = _without_copies(pool)
    pieces = _groups(pool, _not_shown(pool, kept))
    answer = pool.segments[[*kept, *(group[0] for group in pieces)]]
    unions = [_union(pool, group) for group in pieces]
    masks = concatenate([answer.masks[: len(kept)], *(masks for masks, _ in unions)], answer.image_hw)
    boxes = np.concatenate([answer.boxes_xyxy[: len(kept)], *(box for _, box in unions)])
    answer = replace(answer, masks=masks, boxes_xyxy=boxes)
    if whole is not None:
        answer = join([answer, whole[_new_among(whole, answer, merge_iou)]])
    return answer[np.argsort(-answer.scores, kind="stable")]


class _Pool:
    """All segments of all tiles as rows of one answer, the best first, and which of them are alike."""

    def __init__(self, parts: Sequence[Part], merge_iou: float, conf: float) -> None:
        self._merge_iou = merge_iou
        together = join([part.segments for part in parts])
        counts = [len(part.segments) for part in parts]
        order = np.argsort(-together.scores, kind="stable")  # of equal scores, that of the first tile
        self.segments = together[order]
        tile_of = np.repeat(np.arange(len(parts)), counts)[order]
        tiles = np.stack([part.tile_xyxy for part in parts])
        margins = np.array([part.margin_px for part in parts])[tile_of]
        extents = self.segments.masks.boxes_xyxy().astype(np.int64)
        inner = tiles[tile_of] != np.array([0, 0, *together.image_hw[::-1]])
        self.cut: NDArray[np.bool_] = (inner & (np.abs(extents - tiles[tile_of]) <= margins[:, None])).any(1)
        # Edges of boxes near the border of a tile lie on it, which is right at the border of the image only.
        snapped = inner & (self.segments.boxes_xyxy == tiles[tile_of])
        boxes = np.where(snapped, extents, self.segments.boxes_xyxy).astype(np.float32)
        self.segments = replace(self.segments, boxes_xyxy=boxes)
        self.alike: defaultdict[int, dict[int, int]] = defaultdict(dict)
        """Row → rows of other tiles that are alike → pixels that both share."""
        rows_of = [np.flatnonzero(tile_of == i) for i in range(len(tiles))]
        for i, tile in enumerate(tiles):
            for j in range(i + 1, len(tiles)):
                window = np.concatenate([np.maximum(tile[:2], tiles[j, :2]), np.minimum(tile[2:], tiles[j, 2:])])
                if (window[:2] < window[2:]).all():
                    self._compare(rows_of[i], rows_of[j], window, extents)
        confirmed = np.isin(np.arange(len(order)), list(self.alike))
        self.counts: NDArray[np.bool_] = (self.segments.scores > conf) | confirmed

    def _compare(
        self, rows: NDArray[np.int64], others: NDArray[np.int64], window: NDArray[np.int64], extents: NDArray[np.int64]
    ) -> None:
        """Compare the segments of two tiles on what both of them show."""
        rows, others = (part[_overlapping(extents[part], window)] for part in (rows, others))
        seen, other_seen = (seen_through(self.segments.masks[part], window) for part in (rows, others))
        classes = self.segments.classes
        for i, j, shared in alike(seen, other_seen, self._merge_iou):
            row, other = int(rows[i]), int(others[j])
            if classes[row] == classes[other]:
                self.alike[row][other] = self.alike[other][row] = shared


def _overlapping(extents: NDArray[np.int64], window: NDArray[np.int64]) -> NDArray[np.bool_]:
    inside = (extents[:, :2] < window[2:]) & (extents[:, 2:] > window[:2])
    return np.asarray(inside.all(1))


def _without_copies(pool: _Pool) -> list[int]:
    """Rows of the segments that are whole, each thing once."""
    kept: dict[int, None] = {}
    for row in np.flatnonzero(pool.counts & ~pool.cut).tolist():
        if not any(other in kept for other in pool.alike[row]):
            kept[row] = None
    return list(kept)


def _not_shown(pool: _Pool, kept: Collection[int]) -> list[int]:
    """Rows of the pieces that no kept segment shows too."""
    there = set(kept)
    areas = pool.segments.areas

    def shown(row: int) -> bool:
        return any(other in there and shared >= _COVERED * areas[row] for other, shared in pool.alike[row].items())

    return [row for row in np.flatnonzero(pool.counts & pool.cut).tolist() if not shown(row)]


def _groups(pool: _Pool, pieces: Sequence[int]) -> list[list[int]]:
    """Pieces of one thing together, each group with its best piece first."""
    leader = {row: row for row in pieces}

    def leader_of(row: int) -> int:
        while leader[row] != row:
            row = leader[row]
        return row

    for row in pieces:
        for other in pool.alike[row]:
            if other in leader:
                first, second = sorted((leader_of(row), leader_of(other)))
                leader[second] = first
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for row in pieces:
        groups[leader_of(row)].append(row)
    return list(groups.values())


def _union(pool: _Pool, group: list[int]) -> tuple[PackedMasks, NDArray[np.float32]]:
    boxes = pool.segments.boxes_xyxy[group]
    box = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])[None]
    return pool.segments.masks[group].union(), box


def _new_among(whole: Segments, answer: Segments, merge_iou: float) -> list[int]:
    """Rows of `whole` that are like no segment of the answer."""
    ious = mask_ious(whole.masks, answer.masks, merge_iou)
    ious[whole.classes[:, None] != answer.classes] = 0
    rows: list[int] = np.flatnonzero((ious < merge_iou).all(1)).tolist()
    return rows
