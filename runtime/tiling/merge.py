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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..masks.overlap import mask_ious
from ..masks.store import PackedMasks, concatenate
from ..segments import Segments, join
from .compare import alike

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
    """All segments of all tiles as rows of one answer, the best first, and which of them are alike.

    Attributes:
        segments: of all tiles.
        cut: (n,) bool, may be a piece.
        counts: (n,) bool, has the score that it needs.
        pairs: (p, 2) int64, two rows of different tiles that are alike; each pair both ways round, by the first row.
        shared: (p,) int64, pixels that both rows have.
    """

    def __init__(self, parts: Sequence[Part], merge_iou: float, conf: float) -> None:
        together = join([part.segments for part in parts])
        sizes = [len(part.segments) for part in parts]
        order = np.argsort(-together.scores, kind="stable")  # of equal scores, that of the first tile
        self.segments = together[order]
        tile_of = np.repeat(np.arange(len(parts)), sizes)[order]
        tiles = np.stack([part.tile_xyxy for part in parts])
        margins = np.array([part.margin_px for part in parts])[tile_of]
        extents = self.segments.masks.boxes_xyxy().astype(np.int64)
        inner = tiles[tile_of] != np.array([0, 0, *together.image_hw[::-1]])
        self.cut: NDArray[np.bool_] = (inner & (np.abs(extents - tiles[tile_of]) <= margins[:, None])).any(1)
        # Edges of boxes near the border of a tile lie on it, which is right at the border of the image only.
        snapped = inner & (self.segments.boxes_xyxy == tiles[tile_of])
        boxes = np.where(snapped, extents, self.segments.boxes_xyxy).astype(np.float32)
        self.segments = replace(self.segments, boxes_xyxy=boxes)
        rows = np.split(np.argsort(order), np.cumsum(sizes)[:-1])
        self.pairs, self.shared = _both_ways(list(_alike_parts(parts, rows, merge_iou)))
        self.counts: NDArray[np.bool_] = self.segments.scores > conf
        self.counts[self.pairs[:, 0]] = True

    def are(self, rows: Sequence[int]) -> NDArray[np.bool_]:
        """(n,) bool: is each row among these?"""
        flags = np.zeros(len(self.segments), np.bool_)
        flags[rows] = True
        return flags


def _alike_parts(
    parts: Sequence[Part], rows: Sequence[NDArray[np.int64]], merge_iou: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of rows of the pool that are alike and the pixels that they share, for each two tiles that overlap."""
    tiles = np.stack([part.tile_xyxy for part in parts])
    for i, part in enumerate(parts):
        windows = np.concatenate([np.maximum(tiles[i, :2], tiles[:, :2]), np.minimum(tiles[i, 2:], tiles[:, 2:])], 1)
        overlapping = np.flatnonzero((windows[:, :2] < windows[:, 2:]).all(1))
        for j in overlapping[overlapping > i].tolist():
            first, second = part.segments, parts[j].segments
            pairs, shared = alike(first.masks, second.masks, windows[j], merge_iou)
            same = first.classes[pairs[:, 0]] == second.classes[pairs[:, 1]]
            yield np.stack([rows[i][pairs[same, 0]], rows[j][pairs[same, 1]]], 1), shared[same]


def _both_ways(
    alike_parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *(pairs for pairs, _ in alike_parts)])
    shared = np.concatenate([np.zeros(0, np.int64), *(shared for _, shared in alike_parts)])
    pairs, shared = np.concatenate([pairs, pairs[:, ::-1]]), np.tile(shared, 2)
    by_row = np.argsort(pairs[:, 0], kind="stable")
    return pairs[by_row], shared[by_row]


def _without_copies(pool: _Pool) -> list[int]:
    """Rows of the segments that are whole, each thing once."""
    n = len(pool.segments)
    starts = np.searchsorted(pool.pairs[:, 0], np.arange(n + 1))
    others = pool.pairs[:, 1]
    kept = np.zeros(n, np.bool_)
    for row in np.flatnonzero(pool.counts & ~pool.cut).tolist():
        kept[row] = not kept[others[starts[row] : starts[row + 1]]].any()
    rows: list[int] = np.flatnonzero(kept).tolist()
    return rows


def _not_shown(pool: _Pool, kept: Sequence[int]) -> list[int]:
    """Rows of the pieces that no kept segment shows too."""
    row, other = pool.pairs.T
    covered = pool.are(kept)[other] & (pool.shared >= _COVERED * pool.segments.areas[row])
    shown = pool.are(row[covered])
    rows: list[int] = np.flatnonzero(pool.counts & pool.cut & ~shown).tolist()
    return rows


def _groups(pool: _Pool, pieces: Sequence[int]) -> list[list[int]]:
    """Pieces of one thing together, each group with its best piece first."""
    leader = {row: row for row in pieces}

    def leader_of(row: int) -> int:
        while leader[row] != row:
            leader[row] = row = leader[leader[row]]
        return row

    among = pool.are(pieces)[pool.pairs].all(1)
    for row, other in pool.pairs[among].tolist():
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
