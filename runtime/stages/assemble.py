"""Coefficients × prototypes → binary masks, each assembled on its own box and nowhere else.

The reference (ultralytics 8.4, `retina_masks=True`) multiplies, resamples every mask to the full image in two
bilinear steps, takes > 0 and clears what is outside the box. A pixel depends on at most 3 x 3 prototypes, so the
box's part of them gives the same pixels. Both bilinear steps along an axis are one matrix with three values in a row
(`Resampling`). Compiled code does the work where it was built (`native/source/masks.cpp`). Elsewhere NumPy does: the
matrix is multiplied in blocks along its diagonal, which are all that is kept of it, which costs less than gathering and
mixing. Both give the same pixels (docs/adr/0032).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..masks.packed import PackedCrops
from ..masks.store import PackedMasks
from ..native.calls import write_masks
from ..native.library import library
from .letterbox import TAPS, Letterbox, Resampling, mask_resampling

MASK_THRESHOLD = np.float32(0)
"""A pixel is in the mask if its logit is above, here and on the device."""

_CHUNK_VALUES = 1 << 20
"""Logits of several masks are multiplied at once, up to this many (4 MB)."""

_BLOCK_COLUMNS, _BLOCK_ROWS = 64, 32
"""Image columns and rows of a block: few, so that blocks are mostly diagonal; enough for the call to be worth it."""

_BLOCK_SIDE, _BLOCKS_AT_ONCE = 256, 64
"""Rows of a block of `_Diagonal`, and blocks that are filled at a time, which bounds the memory that it takes."""

_STRIP_PIXELS = 1 << 20
"""Pixels of a mask that are unpacked at a time (1 MB, in whole blocks of rows)."""

_BORDER_PX = 20
_FULL_IMAGE_IOU = 0.9


def assemble(
    coefficients: NDArray[np.float32],
    prototypes: NDArray[np.floating],
    boxes_xyxy: NDArray[np.float32],
    place: Letterbox,
) -> PackedMasks:
    """Masks of n detections, at the size of the image, stored cropped to their boxes and one bit a pixel.

    Args:
        coefficients: (n, mask_dim) float32.
        prototypes: (mask_dim, H/4, W/4), one image of the prototypes output.
        boxes_xyxy: (n, 4) float32, pixels of the image, inside it. A mask covers the pixels x1 ≤ x < x2,
            y1 ≤ y < y2 whose logit is above MASK_THRESHOLD.
        place: the letterbox of the image.

    Raises:
        ModelError: the prototypes hold NaN or infinity.

    Example:
        >>> from fastsam_deploy.runtime.stages.letterbox import fit
        >>> prototypes = np.linspace(-1, 1, 8, dtype=np.float32) * np.ones((1, 8, 1), np.float32)  # rises to the right
        >>> box = np.array([[0, 0, 32, 4]], np.float32)
        >>> masks = assemble(np.ones((1, 1), np.float32), prototypes, box, fit((32, 32), (32, 32)))
        >>> masks.boxes_xyxy().tolist()
        [[16.0, 0.0, 32.0, 4.0]]
    """
    axes = _axes(place, (prototypes.shape[1], prototypes.shape[2]))
    corners = np.ceil(boxes_xyxy).astype(np.int64)
    crops = PackedCrops.blank(np.maximum(corners[:, 2:] - corners[:, :2], 0))
    compiled = library()
    if compiled is None:
        is_finite = _write_crops(crops, coefficients, prototypes, corners, axes)
    else:
        is_finite = write_masks(
            compiled,
            coefficients,
            prototypes.astype(np.float32, copy=False),
            corners,
            ((axes[0].first, axes[0].shares), (axes[1].first, axes[1].shares)),
            float(MASK_THRESHOLD),
            *(crops.words, crops.starts, crops.areas),
        )
    if not is_finite:
        raise ModelError(
            "the network's prototypes hold NaN or infinity; expected finite numbers; an FP16 file can overflow on an "
            "image: use the FP32 one"
        )
    return PackedMasks(place.image_hw, crops, corners[:, :2])


@lru_cache(maxsize=4)
def _axes(place: Letterbox, prototypes_hw: tuple[int, int]) -> tuple[Resampling, Resampling]:
    """Kept for images of the same size, such as frames: 16 bytes for each pixel of a side."""
    axes = mask_resampling(place, prototypes_hw)
    for axis in axes:
        axis.first.flags.writeable = axis.shares.flags.writeable = False  # shared by all who ask for them
    return axes


def snap_to_border(boxes_xyxy: NDArray[np.float32], image_hw: tuple[int, int]) -> NDArray[np.float32]:
    """FastSAM's last step on (n, 4) float32 boxes in pixels of the image.

    An edge within 20 px of the image's border is moved onto it, and a box that then has an IoU above 0.9 with the image
    becomes the image. The masks stay as they are.

    Example:
        >>> snap_to_border(np.array([[5, 30, 90, 95]], np.float32), (100, 200)).tolist()
        [[0.0, 30.0, 90.0, 100.0]]
    """
    height, width = image_hw
    boxes: NDArray[np.float32] = boxes_xyxy.copy()
    size_wh = np.array((width, height), np.float32)
    begins, ends = boxes[:, :2], boxes[:, 2:]
    np.copyto(begins, np.float32(0), where=begins < _BORDER_PX)
    np.copyto(ends, size_wh, where=ends > size_wh - np.float32(_BORDER_PX))
    # Clipped boxes lie inside the image, so their IoU with it is their share of its area.
    sides = ends - begins
    full = sides[:, 0] * sides[:, 1] / np.float32(width * height) > _FULL_IMAGE_IOU
    if np.count_nonzero(full):
        boxes[full] = (0, 0, width, height)
    return boxes


def mask_logits(coefficients: NDArray[np.float32], prototypes: NDArray[np.floating]) -> Iterator[NDArray[np.float32]]:
    """Logits of each mask in turn, at the size of the prototypes. Whole ones: one large product costs less than many
    small parts.

    Args:
        coefficients: (n, mask_dim) float32.
        prototypes: (mask_dim, H/4, W/4), one image of the prototypes output.

    Yields:
        (H/4, W/4) float32.

    Example:
        >>> [logits.tolist() for logits in mask_logits(np.float32([[2], [3]]), np.float32([[[1, -1]]]))]
        [[[2.0, -2.0]], [[3.0, -3.0]]]
    """
    flat = prototypes.astype(np.float32, copy=False).reshape(len(prototypes), -1)
    chunk = max(1, _CHUNK_VALUES // flat.shape[1])
    for start in range(0, len(coefficients), chunk):
        yield from (coefficients[start : start + chunk] @ flat).reshape(-1, *prototypes.shape[1:])


def _write_crops(
    crops: PackedCrops,
    coefficients: NDArray[np.float32],
    prototypes: NDArray[np.floating],
    corners_xyxy: NDArray[np.int64],
    axes: tuple[Resampling, Resampling],
) -> bool:
    """The NumPy twin of `native.calls.write_masks`; it defines which pixels are right."""
    if not np.isfinite(prototypes.sum(dtype=np.float64)):  # one pass, no array of its own
        return False
    vertical, horizontal = _Diagonal(axes[0], _BLOCK_ROWS), _Diagonal(axes[1], _BLOCK_COLUMNS)
    for i, (logits, (x1, y1, x2, y2)) in enumerate(
        zip(mask_logits(coefficients, prototypes), corners_xyxy.tolist(), strict=True)
    ):
        if x1 < x2 and y1 < y2:
            part = logits[vertical.first(y1) : vertical.first(y2 - 1) + TAPS]
            strips = _above_threshold(_stretched(part, horizontal, x1, x2), vertical, y1, y2)
            crops.write(i, strips)
    return True


class _Diagonal:
    """The matrix of a `Resampling`, (side, prototypes), in blocks along its diagonal. Elsewhere it is 0.

    Blocks overlap: each has _BLOCK_SIDE rows of its own and the next `step`, so that any `step` rows lie in one block.
    """

    def __init__(self, axis: Resampling, step: int) -> None:
        side = len(axis.first)
        starts = np.arange(0, side, _BLOCK_SIDE)
        origins = axis.first[starts]
        self._first, self._origins = axis.first.data, origins.data  # give plain numbers, in half the time
        ends = axis.first[np.minimum(starts + (_BLOCK_SIDE + step), side) - 1]
        widest = int((ends - origins).max()) + TAPS
        self._blocks = np.zeros((len(starts), _BLOCK_SIDE + step, widest), np.float32)
        for begin in range(0, len(starts), _BLOCKS_AT_ONCE):
            part = slice(begin, begin + _BLOCKS_AT_ONCE)
            rows = np.minimum(starts[part, None] + np.arange(_BLOCK_SIDE + step), side - 1)
            values = self._blocks[part].reshape(-1)
            places = axis.first[rows] - origins[part, None] + np.arange(0, values.size, widest).reshape(rows.shape)
            for tap in range(TAPS):
                values[places + tap] = axis.shares[rows, tap]

    def first(self, row: int) -> int:
        """The first column of a row that is not 0."""
        return int(self._first[row])

    def rows(self, start: int, end: int) -> tuple[int, int, NDArray[np.float32]]:
        """Rows [start, end), `step` at most: the first column that is not 0, the one after the last, and what lies in
        these columns.
        """
        number, above = divmod(start, _BLOCK_SIDE)
        first, last = self._first[start], self._first[end - 1] + TAPS
        origin = self._origins[number]
        return first, last, self._blocks[number, above : above + end - start, first - origin : last - origin]


def _stretched(logits: NDArray[np.float32], axis: _Diagonal, left: int, right: int) -> NDArray[np.float32]:
    """Columns [left, right) of the image for rows of prototypes: (rows, W/4) → (rows, right - left)."""
    columns = np.empty((len(logits), right - left), np.float32)
    for start in range(left, right, _BLOCK_COLUMNS):
        end = min(start + _BLOCK_COLUMNS, right)
        first, last, matrix = axis.rows(start, end)
        np.matmul(logits[:, first:last], matrix.T, out=columns[:, start - left : end - left])
    return columns


def _above_threshold(
    rows: NDArray[np.float32], axis: _Diagonal, top: int, bottom: int
) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Which logits are above the threshold: rows [top, bottom) of the image from rows of prototypes, from the top down.

    A strip is its first row, counted from `top`, and (rows, columns) bool, good until the next one: all are made in the
    same memory, which stays in the cache and costs no new pages.

    `rows` (rows, columns) begins with the prototype row that image row `top` depends on first.
    """
    above = axis.first(top)
    width = rows.shape[1]
    height = min(max(_STRIP_PIXELS // width // _BLOCK_ROWS, 1) * _BLOCK_ROWS, bottom - top)
    strip = np.empty((height, width), np.bool_)
    for first_row in range(top, bottom, height):
        end_row = min(first_row + height, bottom)
        for start in range(first_row, end_row, _BLOCK_ROWS):
            end = min(start + _BLOCK_ROWS, end_row)
            first, last, matrix = axis.rows(start, end)
            logits = matrix @ rows[first - above : last - above]
            np.greater(logits, MASK_THRESHOLD, out=strip[start - first_row : end - first_row])
        yield first_row - top, strip[: end_row - first_row]
