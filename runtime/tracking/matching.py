"""Which segment of a frame is which object. Three rounds; each takes the best pairs among what is left.

1. Overlap: the IoU of a mask with the one that is expected there. Not that of boxes: the box of an object and that of
   what lies in front of it overlap.
2. Hidden: what is seen of an object lies within its expected mask, and other segments lie in front of the rest.
3. Alike: an object that moves faster than expected. Its mask, moved to the expected place, has the same shape.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..masks.overlap import mask_iou, mask_ious
from ..masks.store import Masks, PackedMasks
from .motion import centers_of, moved

LEAST_IOU = 0.3
LEAST_ALIKE = 0.6
_WITHIN = 0.7
_LEAST_SEEN = 0.04
_HIDDEN = 0.5
_GAP_PX = 2
"""Between the masks of two objects that touch there may be pixels of neither."""

Pair = tuple[int, int]
"""Row of the expected mask, row of the segment."""


def overlapping(expected: PackedMasks, masks: PackedMasks) -> list[Pair]:
    """First round: pairs whose masks overlap most, the best first.

    Args:
        expected: m masks, of the objects.
        masks: n masks, of the frame.

    Example:
        >>> masks = Masks.from_dense([[[1, 1, 0, 0]], [[0, 0, 1, 1]]])
        >>> overlapping(masks[::-1], masks)
        [(0, 1), (1, 0)]
    """
    return best_pairs(mask_ious(expected, masks, LEAST_IOU), LEAST_IOU)


def partly_hidden(
    expected: PackedMasks,
    masks: PackedMasks,
    lost: Sequence[int],
    free: Sequence[int],
    slack_px: NDArray[np.float64],
    parts: Callable[[int], Collection[int]],
) -> list[tuple[int, int, PackedMasks]]:
    """Second round.

    Args:
        expected, masks: as in `overlapping`.
        lost: rows of `expected` that have no pair.
        free: rows of `masks` that have no pair.
        slack_px: (m,) how far each object may be from where it is expected, in x and in y.
        parts: row of `expected` → rows of `masks` that are parts of the object, and do not lie in front of it.

    Returns:
        The pairs, and the expected mask of each, moved to where the visible part fits in.

    Example:
        >>> expected = Masks.from_dense([[[0, 1, 1, 1, 1, 1, 0]]])
        >>> masks = Masks.from_dense([[[0, 1, 0, 0, 0, 0, 0]], [[0, 0, 1, 1, 1, 1, 1]]])
        >>> pairs = partly_hidden(expected, masks, [0], [0], np.ones(1), lambda _: ())
        >>> [pair[:2] for pair in pairs]
        [(0, 0)]
    """
    scores = np.zeros((len(expected), len(masks)))
    wholes: dict[Pair, PackedMasks] = {}
    for i, j in _near(expected, masks, lost, free, slack_px):
        whole = fitted(expected[[i]], masks[[j]], float(slack_px[i]))
        seen = whole.crops[0] & within(masks, j, whole)
        share, missing = int(seen.sum()) / max(int(whole.areas[0]), 1), int(whole.areas[0]) - int(seen.sum())
        if seen.sum() < _WITHIN * masks.areas[j] or share < _LEAST_SEEN:
            continue
        if hidden_part(whole, masks, j, parts(i)).sum() >= _HIDDEN * missing:
            scores[i, j], wholes[i, j] = share, whole
    return [(i, j, wholes[i, j]) for i, j in best_pairs(scores, _LEAST_SEEN)]


def fitted(whole: PackedMasks, part: PackedMasks, slack_px: float) -> PackedMasks:
    """A mask, moved so that a visible part of it fits in, if it is not far.

    An edge of the part is one of the whole, or of what hides it: all combinations are tried.

    Args:
        whole: one mask.
        part: one mask.
        slack_px: farthest way, in x and in y.

    Example:
        >>> whole = Masks.from_dense([[[0, 0, 1, 1, 1, 1, 0]]])
        >>> part = Masks.from_dense([[[0, 1, 1, 0, 0, 0, 0]]])
        >>> fitted(whole, part, slack_px=1).dense().astype(int).tolist()
        [[[0, 1, 1, 1, 1, 0, 0]]]
    """
    edges = (part.boxes_xyxy() - whole.boxes_xyxy())[0].clip(-slack_px, slack_px).tolist()
    steps = [np.array([x, y]) for x in {0.0, edges[0], edges[2]} for y in {0.0, edges[1], edges[3]}]
    steps.sort(key=lambda step: float(np.abs(step).sum()))
    places = [moved(whole, step) for step in steps]
    return max(places, key=lambda place: int((place.crops[0] & within(part, 0, place)).sum()))


def hidden_part(whole: PackedMasks, masks: PackedMasks, j: int, parts: Collection[int] = ()) -> NDArray[np.bool_]:
    """What is missing of an object in mask `j` because other masks lie in front of it.

    Another mask lies in front if it is no part of the object, does not hold the mask, and does not surround it.

    Args:
        whole: one mask: the object as expected.
        masks: n masks, of the frame.
        j: row of them.
        parts: rows of those that are parts of the object.

    Returns:
        (ch, cw) bool, of the size of the crop of `whole`.

    Example:
        >>> masks = Masks.from_dense([[[0, 1, 1, 0, 0, 0]], [[0, 0, 0, 1, 1, 1]]])
        >>> hidden_part(Masks.from_dense([[[0, 1, 1, 1, 1, 0]]]), masks, 0).tolist()
        [[False, False, True, True]]
    """
    mask, boxes = within(masks, j, whole), masks.boxes_xyxy()
    surrounds = (boxes[:, :2] <= boxes[j, :2]).all(1) & (boxes[:, 2:] >= boxes[j, 2:]).all(1)
    cover = np.zeros_like(mask)
    for k in np.flatnonzero(~surrounds).tolist():
        if k not in parts:
            other = within(masks, k, whole)
            if (other & mask).sum() <= _HIDDEN * mask.sum():
                cover |= other
    near = cv2.dilate(cover.view(np.uint8), np.ones((2 * _GAP_PX + 1,) * 2, np.uint8)).view(np.bool_)
    hidden: NDArray[np.bool_] = whole.crops[0] & near & ~mask
    return hidden


def alike(expected: PackedMasks, masks: PackedMasks, lost: Sequence[int], free: Sequence[int]) -> list[Pair]:
    """Third round; the arguments are those of `partly_hidden`.

    Example:
        >>> expected = Masks.from_dense([[[1, 1, 1, 0, 0, 0]]])
        >>> alike(expected, Masks.from_dense([[[0, 0, 0, 1, 1, 1]]]), [0], [0])
        [(0, 0)]
    """
    scores = np.zeros((len(expected), len(masks)))
    if len(lost) and len(free):
        from_xy, to_xy = centers_of(expected), centers_of(masks)
        reach_px = 1.5 * np.abs(expected.boxes_xyxy()[:, 2:] - expected.boxes_xyxy()[:, :2]).max(1)
        for i in lost:
            for j in free:
                step = from_xy[i] - to_xy[j]
                areas = sorted((int(expected.areas[i]), int(masks.areas[j])))
                if np.abs(step).max() > reach_px[i] or areas[0] < LEAST_ALIKE * areas[1]:
                    continue
                scores[i, j] = mask_iou(expected, i, moved(masks[[j]], step), 0)
    return best_pairs(scores, LEAST_ALIKE)


def best_pairs(scores: NDArray[np.float64], least: float) -> list[Pair]:
    """Pairs of the highest scores; each row and each column is in one pair at most.

    Args:
        scores: (m, n).
        least: pairs below it are left out.

    Example:
        >>> best_pairs(np.array([[0.9, 0.8], [0.85, 0.1]]), least=0.2)
        [(0, 0)]
    """
    pairs: list[Pair] = []
    rows, columns = np.nonzero(scores >= max(least, 1e-9))
    free_rows, free_columns = np.ones(scores.shape[0], np.bool_), np.ones(scores.shape[1], np.bool_)
    for k in np.argsort(-scores[rows, columns], kind="stable").tolist():
        i, j = int(rows[k]), int(columns[k])
        if free_rows[i] and free_columns[j]:
            free_rows[i] = free_columns[j] = False
            pairs.append((i, j))
    return pairs


def _near(
    expected: Masks, masks: Masks, lost: Sequence[int], free: Sequence[int], slack_px: NDArray[np.float64]
) -> Iterator[Pair]:
    """Pairs whose crops share pixels, if one of them is moved a little."""
    for i in lost:
        start, end = expected.corners_xy[i] - slack_px[i], expected.corners_xy[i] + expected.sizes_wh[i] + slack_px[i]
        for j in free:
            other = masks.corners_xy[j]
            if (np.minimum(end, other + masks.sizes_wh[j]) > np.maximum(start, other)).all():
                yield i, j


def within(masks: Masks, j: int, window: Masks) -> NDArray[np.bool_]:
    """Mask `j` within the crop of a single other mask: bool, of the size of that crop.

    Example:
        >>> masks = Masks.from_dense([[[0, 1, 1, 0]], [[0, 0, 1, 1]]])
        >>> within(masks, 1, masks[[0]]).tolist()
        [[False, True]]
    """
    x, y = (masks.corners_xy[j] - window.corners_xy[0]).tolist()
    width, height = window.sizes_wh[0].tolist()
    part = np.zeros((height, width), np.bool_)
    crop = masks.crops[j]
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + crop.shape[0], height), min(x + crop.shape[1], width)
    if bottom > top and right > left:
        part[top:bottom, left:right] = crop[top - y : bottom - y, left - x : right - x]
    return part
