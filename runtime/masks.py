"""Coefficients × prototypes → binary masks, each assembled on its own box and nowhere else.

The reference (ultralytics 8.4, `retina_masks=True`) multiplies, resamples every mask to the full image in two
bilinear steps, takes > 0 and clears what is outside the box. Here the same pixels come from less work:

- a pixel depends on at most 3 x 3 prototypes, so the box's part of them is enough;
- both bilinear steps along an axis are one weighted mean of three neighbours (`Resampling`);
- the weights are not negative: where all three neighbours are above 0, or none, so is the pixel, or is not.
  Only along the outline is there anything to calculate.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from .letterbox import TAPS, Letterbox, Resampling, mask_resampling
from .masks_store import Masks

_CHUNK_VALUES = 1 << 22
"""Logits of several masks are multiplied at once, up to this many (16 MB)."""

_DENSE_PIXELS = 1 << 17
"""Up to this size calculating every pixel costs less than finding those that need it."""

_BORDER_PX = 20
_FULL_IMAGE_IOU = 0.9


def assemble(
    coefficients: NDArray[np.float32],
    prototypes: NDArray[np.floating],
    boxes_xyxy: NDArray[np.float32],
    place: Letterbox,
) -> Masks:
    """Masks of n detections, at the size of the image, stored cropped to their boxes.

    Args:
        coefficients: (n, mask_dim) float32.
        prototypes: (mask_dim, H/4, W/4), one image of the prototypes output.
        boxes_xyxy: (n, 4) float32, pixels of the image, inside it. A mask covers the pixels x1 ≤ x < x2,
            y1 ≤ y < y2 whose logit is above 0.
        place: the letterbox of the image.
    """
    vertical, horizontal = mask_resampling(place, (prototypes.shape[1], prototypes.shape[2]))
    corners = np.ceil(boxes_xyxy).astype(np.int64)
    crops = []
    for logits, (x1, y1, x2, y2) in zip(_logits(coefficients, prototypes), corners.tolist(), strict=True):
        if x2 <= x1 or y2 <= y1:
            crops.append(np.zeros((0, 0), np.bool_))
            continue
        part = logits[vertical.index[y1] : vertical.index[y2 - 1] + TAPS]
        crops.append(_above_zero(_stretched(part, horizontal, x1, x2), vertical, y1, y2))
    return Masks(place.image_hw, tuple(crops), corners[:, :2])


def snap_to_border(boxes_xyxy: NDArray[np.float32], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """FastSAM's last step on (n, 4) boxes of the image: an edge within 20 px of the border goes onto it, and every
    box that then has IoU > 0.9 with the image becomes the image. The masks stay as they are.
    """
    height, width = image_hw
    boxes: NDArray[np.float32] = boxes_xyxy.copy()
    boxes[:, :2][boxes[:, :2] < _BORDER_PX] = 0
    boxes[boxes[:, 2] > width - _BORDER_PX, 2] = width
    boxes[boxes[:, 3] > height - _BORDER_PX, 3] = height
    # Clipped boxes lie inside the image, so their IoU with it is their share of its area.
    share = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / np.float32(width * height)
    boxes[share > _FULL_IMAGE_IOU] = (0, 0, width, height)
    return boxes


def _logits(coefficients: NDArray[np.float32], prototypes: NDArray[np.floating]) -> Iterator[NDArray[np.float32]]:
    """(H/4, W/4) of each mask in turn. Whole ones: one large product costs less than many small parts."""
    flat = prototypes.astype(np.float32, copy=False).reshape(len(prototypes), -1)
    chunk = max(1, _CHUNK_VALUES // flat.shape[1])
    for start in range(0, len(coefficients), chunk):
        yield from (coefficients[start : start + chunk] @ flat).reshape(-1, *prototypes.shape[1:])


def _mixed(lines: NDArray[np.float32], axis: Resampling, first: int, end: int) -> NDArray[np.float32]:
    """Lines [first, end) of the image from lines of prototypes: (prototypes, k) → (end - first, k).

    `lines` begins with the prototype that image line `first` depends on first.
    """
    taps, weight = axis.index[first:end] - axis.index[first], axis.weight[:, first:end, None]
    mixed: NDArray[np.float32] = lines.take(taps, 0)
    mixed *= weight[0]
    for tap in range(1, TAPS):
        more = lines.take(taps + tap, 0)
        more *= weight[tap]
        mixed += more
    return mixed


def _stretched(logits: NDArray[np.float32], axis: Resampling, left: int, right: int) -> NDArray[np.float32]:
    """Columns [left, right) of the image for rows of prototypes: (rows, W/4) → (rows, right - left)."""
    # Transposed: NumPy gathers whole lines several times faster than single values.
    lines = np.ascontiguousarray(logits[:, axis.index[left] : axis.index[right - 1] + TAPS].T)
    return np.asarray(cv2.transpose(_mixed(lines, axis, left, right)))


def _above_zero(rows: NDArray[np.float32], axis: Resampling, top: int, bottom: int) -> NDArray[np.bool_]:
    """Rows [top, bottom) of the image from rows of prototypes: (rows, columns) → (bottom - top, columns) bool.

    `rows` begins with the prototype row that image row `top` depends on first.
    """
    if (bottom - top) * rows.shape[1] <= _DENSE_PIXELS:
        return _mixed(rows, axis, top, bottom) > 0
    start, width = int(axis.index[top]), rows.shape[1]
    above = rows > 0
    # For each first tap, and for image rows that mix two prototypes and for those that mix three:
    # are all of them above 0, and do they differ?
    all_two, any_two = above[:-2] & above[1:-1], above[:-2] | above[1:-1]
    all_three, any_three = all_two & above[2:], any_two | above[2:]
    everywhere = np.stack((all_two, all_three), 1).reshape(-1, width)
    mask = everywhere.take(axis.kind[top:bottom] - 2 * start, 0)
    _draw_outline(mask, rows, np.flatnonzero(any_two ^ all_two), 2, axis, top)
    _draw_outline(mask, rows, np.flatnonzero(any_three ^ all_three), 3, axis, top)
    return mask


def _draw_outline(
    mask: NDArray[np.bool_], rows: NDArray[np.float32], cells: NDArray[np.int64], taps: int, axis: Resampling, top: int
) -> None:
    """Set those pixels of `mask` that are above 0 where prototypes differ in sign.

    Args:
        cells: numbers (first tap x width + column) in `rows`, ascending.
        taps: whether the image rows that mix two prototypes are meant, or those that mix three.
    """
    width = mask.shape[1]
    tap = cells // width
    kind = 2 * (tap + int(axis.index[top])) + taps - 2
    y, end = np.maximum(axis.begin[kind], top), np.minimum(axis.begin[kind + 1], top + len(mask))
    pixel, pixels = (y - top - tap) * width + cells, mask.reshape(-1)
    # The shares sum to 1: the mean is the first prototype and what the others differ from it.
    flat = rows.reshape(-1)
    first = flat.take(cells)
    differences = [flat.take(cells + number * width) - first for number in range(1, taps)]
    np.negative(first, out=first)
    for _ in range(int((end - y).max(initial=0))):  # one image row of every cell in each round
        rise = axis.weight[1].take(y, mode="clip")
        rise *= differences[0]
        for number in range(2, taps):
            rise += axis.weight[number].take(y, mode="clip") * differences[number - 1]
        above = rise > first
        above &= y < end
        pixels[pixel[above]] = True
        y += 1
        pixel += width
