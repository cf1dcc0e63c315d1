"""The functions of the compiled library on NumPy arrays. Each checks what it hands over: the library trusts it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .library import Library

_NOT_FINITE, _NO_MEMORY = 1, 2
_TAPS = 3


class CropWords(NamedTuple):
    """Crops of masks as the library reads them.

    Attributes:
        words: uint32, the rows of the crops, each beginning a word.
        starts: (n,) int64, where each crop begins in `words`.
        places_xyxy: (n, 4) int64, pixels of the image; right and bottom exclusive.

    Example:
        >>> crop = CropWords(np.array([3, 1], np.uint32), np.array([0]), np.array([[5, 0, 7, 2]]))
        >>> crop.places_xyxy.tolist()  # pixels (5, 0), (6, 0) and (5, 1)
        [[5, 0, 7, 2]]
    """

    words: NDArray[np.uint32]
    starts: NDArray[np.int64]
    places_xyxy: NDArray[np.int64]


def write_masks(
    library: Library,
    coefficients: NDArray[np.float32],
    prototypes: NDArray[np.float32],
    corners_xyxy: NDArray[np.int64],
    axes: tuple[tuple[NDArray[np.int32], NDArray[np.float32]], tuple[NDArray[np.int32], NDArray[np.float32]]],
    threshold: float,
    words: NDArray[np.uint32],
    starts: NDArray[np.int64],
    areas: NDArray[np.int64],
) -> bool:
    """Masks of n detections as bits. Twin: `assemble` of `stages/assemble.py`.

    Args:
        coefficients: (n, mask_dim) float32.
        prototypes: (mask_dim, H/4, W/4) float32.
        corners_xyxy: (n, 4) int64, crops in pixels of the image, inside it.
        axes: vertical and horizontal: (side,) int32 first prototype and (side, 3) float32 shares of the image's pixels.
        threshold: a pixel is in the mask if its logit is above.
        words: uint32, all 0: the rows of the crops, each beginning a word; written.
        starts: (n,) int64, where each crop begins in `words`.
        areas: (n,) int64, all 0: pixels of each mask; written.

    Returns:
        False if a prototype is NaN or infinite.

    Raises:
        ValueError: an array is of another shape, or names places outside another one.
        MemoryError: there is not enough memory.
    """
    n, depth = coefficients.shape
    _, rows, columns = prototypes.shape
    sides = [_checked_axis(*axis, source) for axis, source in zip(axes, (rows, columns), strict=True)]
    _check_crops(corners_xyxy, (sides[1], sides[0]), words, starts)
    shapes = len(prototypes) == depth, corners_xyxy.shape == (n, 4), starts.shape == (n,), areas.shape == (n,)
    if not all(shapes):
        raise ValueError(f"{n} coefficients × {depth}, prototypes {prototypes.shape}, crops {corners_xyxy.shape}")
    coefficients = np.ascontiguousarray(coefficients, np.float32)
    prototypes = np.ascontiguousarray(prototypes, np.float32)
    corners_xyxy = np.ascontiguousarray(corners_xyxy, np.int64)
    (first_y, shares_y), (first_x, shares_x) = axes
    result = library.functions.fastsam_masks(
        *(_at(coefficients), n, depth, _at(prototypes), rows, columns, _at(corners_xyxy)),
        *(_at(first_y), _at(shares_y), sides[0], _at(first_x), _at(shares_x), sides[1]),
        *(threshold, _at(words), _at(starts), _at(areas), library.level),
    )
    if result == _NO_MEMORY:
        raise MemoryError
    return bool(result != _NOT_FINITE)


def decoded_rows(
    library: Library,
    output: NDArray[np.float32],
    conf: float,
    score_rounding: float,
    iou: float,
    max_candidates: int,
    max_det: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] | None:
    """Boxes, scores and coefficients of one image of one class. Twin: `decode` of `stages/decode.py`.

    Args:
        output: (5 + mask_dim, anchors) float32, the values of a row side by side.
        score_rounding: scores may be as far outside [0, 1].

    Returns:
        (n, 4), (n,) and (n, mask_dim) float32. None: the twin has an error to raise, or a limit to apply.

    Raises:
        ValueError: the output is of another shape.
        MemoryError: there is not enough memory.
    """
    pitch, value = (stride // output.itemsize for stride in output.strides)
    if output.ndim != 2 or len(output) < 5 or output.dtype != np.float32 or value != 1 or output.strides[0] % 4:
        raise ValueError(f"the output is {output.dtype} {output.shape}, strides {output.strides}")
    depth, anchors = len(output) - 5, output.shape[1]
    most = min(max_det, anchors)
    boxes, scores = np.empty((most, 4), np.float32), np.empty(most, np.float32)
    coefficients = np.empty((most, depth), np.float32)
    count = library.functions.fastsam_decode(
        *(_at(output), anchors, pitch, depth, conf, score_rounding, iou, max_candidates, most),
        *(_at(boxes), _at(scores), _at(coefficients), library.level),
    )
    if count == -1:
        raise MemoryError
    return None if count < 0 else (boxes[:count], scores[:count], coefficients[:count])


def kept_rows(library: Library, boxes_xyxy: NDArray[np.float32], threshold: float, most: int) -> NDArray[np.int64]:
    """Rows of (n, 4) float32 boxes, best score first, that are kept. Twin: `nms` of `stages/decode.py`."""
    boxes = np.ascontiguousarray(boxes_xyxy, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes are {boxes.shape}, expected (n, 4)")
    kept = np.empty(len(boxes), np.int64)
    count = library.functions.fastsam_nms(_at(boxes), len(boxes), threshold, most, _at(kept), library.level)
    if count < 0:
        raise MemoryError
    return kept[:count]


def write_planes(library: Library, pixels: NDArray[np.uint8], planes: NDArray[np.float32]) -> None:
    """(h, w, 3) uint8 pixels / 255 into (3, h, w) float32 planes. Twin: the end of `write_input`.

    Rows of both may lie apart, their values may not.
    """
    pixels, (plane, row) = _checked_image(pixels), _checked_planes(planes)
    height, width, _ = pixels.shape
    if planes.shape[1:] != (height, width):
        raise ValueError(f"pixels are {pixels.shape}, planes {planes.shape}")
    library.functions.fastsam_planes(
        *(_at(pixels), height, width, pixels.strides[0]), *(_at(planes), row, plane, library.level)
    )


def write_resized(library: Library, pixels: NDArray[np.uint8], planes: NDArray[np.float32]) -> None:
    """(h, w, 3) uint8 pixels, resized to (H, W), / 255 into (3, H, W) float32 planes. Twin: `write_input`.

    Rows of both may lie apart, their values may not.

    Raises:
        ValueError: the arrays are of other shapes.
        MemoryError: there is not enough memory.
    """
    pixels, (plane, row) = _checked_image(pixels), _checked_planes(planes)
    result = library.functions.fastsam_resized(
        *(_at(pixels), *pixels.shape[:2], pixels.strides[0], *planes.shape[1:]),
        *(_at(planes), row, plane, library.level),
    )
    if result == _NO_MEMORY:
        raise MemoryError


def rle_text(
    library: Library, words: NDArray[np.uint32], corner_xy: tuple[int, int], image_hw: tuple[int, int]
) -> bytes:
    """COCO RLE of one crop, (rows, words of a row) uint32. Twin: `encode` of `masks/rle.py`."""
    words = np.ascontiguousarray(words, np.uint32)
    rows, pitch = words.shape
    capacity = 1 << 17  # only the pages that are written take memory
    while True:
        text = np.empty(capacity, np.uint8)
        size = library.functions.fastsam_rle(_at(words), rows, pitch, *corner_xy, *image_hw, _at(text), capacity)
        if size < 0:
            raise MemoryError
        if size <= capacity:
            return text[:size].tobytes()
        capacity = size


def count_inside(library: Library, crops: CropWords, boxes_xyxy: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, m) int64, pixels of each mask inside each of (m, 4) boxes. Twin: `overlap` of `masks/packed.py`.

    Raises:
        ValueError: an array is of another shape, or names places outside another one.
    """
    crops = _checked_crops(crops)
    boxes = _rows_of(boxes_xyxy, 4)
    pixels = np.empty((len(crops.starts), len(boxes)), np.int64)
    library.functions.fastsam_inside(
        *(*_addresses(crops), len(crops.starts)), *(_at(boxes), len(boxes), _at(pixels), library.level)
    )
    return pixels


def count_shared(
    library: Library,
    crops: CropWords,
    others: CropWords,
    pairs: NDArray[np.int64],
    box_xyxy: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(m,) int64, pixels in a box that pairs of masks share. Twin: `shared_pixels` of `masks/overlap.py`.

    Args:
        pairs: (m, 2) int64, rows of `crops` and of `others`.
        box_xyxy: (4,) int64, pixels of the image; right and bottom exclusive.

    Raises:
        ValueError: an array is of another shape, or names places outside another one.
    """
    crops, others = _checked_crops(crops), _checked_crops(others)
    pairs, box = _rows_of(pairs, 2), _rows_of(box_xyxy[None], 4)
    if len(pairs) and (pairs.min() < 0 or (pairs.max(0) >= (len(crops.starts), len(others.starts))).any()):
        raise ValueError(f"pairs up to {pairs.max(0)} of {len(crops.starts)} and {len(others.starts)} crops")
    pixels = np.empty(len(pairs), np.int64)
    library.functions.fastsam_shared(
        *(*_addresses(crops), *_addresses(others)), *(_at(pairs), len(pairs), _at(box), _at(pixels), library.level)
    )
    return pixels


def _checked_image(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"pixels are {pixels.shape}, expected (h, w, 3)")
    if pixels.strides[1:] == (3, 1) and pixels.dtype == np.uint8:
        return pixels
    return np.ascontiguousarray(pixels, np.uint8)


def _checked_planes(planes: NDArray[np.float32]) -> tuple[int, int]:
    """Values from a plane to the next, and from a row to the next."""
    if planes.ndim != 3 or len(planes) != 3 or planes.dtype != np.float32:
        raise ValueError(f"planes are {planes.dtype} {planes.shape}, expected float32 (3, H, W)")
    plane, row, value = (stride // planes.itemsize for stride in planes.strides)
    if value != 1 or any(stride % planes.itemsize for stride in planes.strides):
        raise ValueError(f"planes have strides {planes.strides}, expected values side by side")
    return plane, row


def _checked_axis(first: NDArray[np.int32], shares: NDArray[np.float32], source: int) -> int:
    """The side of the image of this axis, whose pixels depend on `source` prototypes."""
    side = len(first)
    is_right = first.dtype == np.int32 and shares.dtype == np.float32 and shares.shape == (side, _TAPS)
    if not is_right or not first.flags.c_contiguous or not shares.flags.c_contiguous:
        raise ValueError(f"an axis has first {first.dtype} {first.shape}, shares {shares.dtype} {shares.shape}")
    # Ascending, so the two ends are the extremes.
    if side == 0 or first[0] < 0 or first[-1] > source - _TAPS or (first[1:] < first[:-1]).any():
        raise ValueError(f"an axis of {side} pixels leaves its {source} prototypes")
    return side


def _check_crops(
    corners_xyxy: NDArray[np.int64], image_wh: tuple[int, int], words: NDArray[np.uint32], starts: NDArray[np.int64]
) -> None:
    sizes = np.maximum(corners_xyxy[:, 2:] - corners_xyxy[:, :2], 0)
    if ((corners_xyxy < 0) | (corners_xyxy > image_wh * 2))[(sizes > 0).all(1)].any():
        raise ValueError(f"a crop leaves the image of {image_wh[0]}×{image_wh[1]} pixels")
    _check_words(words, starts, sizes)


def _checked_crops(crops: CropWords) -> CropWords:
    words, starts, places = crops
    places = _rows_of(places, 4)
    sizes = places[:, 2:] - places[:, :2]
    if starts.shape != (len(places),) or (sizes < 0).any():
        raise ValueError(f"{len(places)} places, starts {starts.shape}, sizes from {sizes.min(initial=0)}")
    starts = np.ascontiguousarray(starts)
    _check_words(words, starts, sizes)
    return CropWords(words, starts, places)


def _check_words(words: NDArray[np.uint32], starts: NDArray[np.int64], sizes_wh: NDArray[np.int64]) -> None:
    if words.dtype != np.uint32 or starts.dtype != np.int64 or not words.flags.c_contiguous:
        raise ValueError(f"words are {words.dtype}, starts {starts.dtype}")
    ends = starts + -(-sizes_wh[:, 0] // 32) * sizes_wh[:, 1]
    if len(starts) and (starts.min() < 0 or ends.max() > len(words)):
        raise ValueError(f"crops end at word {ends.max()} of {len(words)}")


def _rows_of(numbers: NDArray[np.int64], columns: int) -> NDArray[np.int64]:
    if numbers.ndim != 2 or numbers.shape[1] != columns:
        raise ValueError(f"numbers are {numbers.shape}, expected (n, {columns})")
    return np.ascontiguousarray(numbers, np.int64)


def _addresses(crops: CropWords) -> tuple[int, int, int]:
    return _at(crops.words), _at(crops.starts), _at(crops.places_xyxy)


def _at(array: NDArray[np.generic]) -> int:
    return int(array.ctypes.data)
