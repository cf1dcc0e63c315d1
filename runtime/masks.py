"""Coefficients × prototypes → binary masks, each assembled on its own box and nowhere else.

The reference (ultralytics 8.4, `retina_masks=True`) multiplies, resamples every mask to the full image in two
bilinear steps, takes > 0 and clears what is outside the box. A pixel depends on nothing outside its box but a
margin of two prototypes, so the same numbers come from the box's part alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .letterbox import Letterbox, Resampling, mask_resampling
from .masks_store import Masks

_BLOCK_PIXELS = 1 << 15
"""Rows are thresholded in blocks of about this many pixels, which stay in the processor's second-level cache."""

_BORDER_PX = 20
_FULL_IMAGE_IOU = 0.9


@dataclass(frozen=True, slots=True)
class _Span:
    """The part of a Resampling that the image pixels [first, end) need.

    Attributes:
        source: slice of prototypes.
        before, after: for each magnified pixel, its two prototypes, counted from source.start.
        zoom_weight: share of `after`.
        index: for each image pixel the magnified pixel before it, counted from the first one used.
        weight: share of the one after it.
    """

    source: slice
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    zoom_weight: NDArray[np.float32]
    index: NDArray[np.int64]
    weight: NDArray[np.float32]


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
    planes = prototypes.astype(np.float32, copy=False)
    corners = np.ceil(boxes_xyxy).astype(np.int64)
    crops = []
    for row, (x1, y1, x2, y2) in zip(coefficients, corners.tolist(), strict=True):
        if x2 <= x1 or y2 <= y1:
            crops.append(np.zeros((0, 0), np.bool_))
            continue
        rows, columns = _span(vertical, y1, y2), _span(horizontal, x1, x2)
        part = planes[:, rows.source, columns.source]
        logits = (row @ part.reshape(len(row), -1)).reshape(part.shape[1:])
        crops.append(_above_zero(_stretch_columns(logits, columns), rows))
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


def _span(axis: Resampling, first: int, end: int) -> _Span:
    index = axis.index[first:end]
    low, high = int(index[0]), min(int(index[-1]) + 1, axis.last)
    magnified = np.arange(axis.start + low, axis.start + high + 1)
    at = np.maximum((magnified.astype(np.float32) + np.float32(0.5)) / np.float32(axis.zoom) - np.float32(0.5), 0)
    before = np.minimum(at.astype(np.int64), axis.source_size - 1)
    after = np.minimum(before + 1, axis.source_size - 1)
    source = slice(int(before[0]), int(after[-1]) + 1)
    return _Span(
        source,
        before - source.start,
        after - source.start,
        at - before.astype(np.float32),
        index - low,
        axis.weight[first:end],
    )


def _magnified(logits: NDArray[np.float32], span: _Span, axis: int) -> NDArray[np.float32]:
    """First bilinear step along one axis; nothing to do where every magnified pixel is a prototype."""
    if not span.zoom_weight.any():
        return logits.take(span.before, axis)
    shape = (-1, 1) if axis == 0 else (1, -1)
    weight = span.zoom_weight.reshape(shape)
    return logits.take(span.before, axis) * (1 - weight) + logits.take(span.after, axis) * weight


def _stretch_columns(logits: NDArray[np.float32], columns: _Span) -> NDArray[np.float32]:
    """(rows, prototypes) → (rows, image columns)."""
    near = _magnified(logits, columns, 1)
    step = np.diff(near, axis=1, append=near[:, -1:])  # past the last pixel there is only itself
    stretched = step.take(columns.index, 1)
    stretched *= columns.weight
    stretched += near.take(columns.index, 1)
    return stretched


def _above_zero(logits: NDArray[np.float32], rows: _Span) -> NDArray[np.bool_]:
    """(prototypes, columns) → (image rows, columns) bool: is the logit above 0?"""
    near = _magnified(logits, rows, 0)
    step = np.diff(near, axis=0, append=near[-1:])
    np.negative(near, out=near)
    width = near.shape[1]
    above = np.empty((len(rows.index), width), np.bool_)
    block = max(1, _BLOCK_PIXELS // width)
    for start in range(0, len(above), block):
        part = slice(start, start + block)
        rise = step.take(rows.index[part], 0)
        rise *= rows.weight[part, None]
        np.greater(rise, near.take(rows.index[part], 0), out=above[part])
    return above
