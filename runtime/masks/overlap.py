"""How alike two masks are, counted on their crops: the IoU of their pixels and the F-measure of their outlines."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..native.calls import count_shared
from ..native.library import library
from .store import Masks


def mask_ious(masks: Masks, others: Masks, at_least: float = 0.0) -> NDArray[np.float64]:
    """IoU of each mask with each other mask, counted on their crops.

    Args:
        masks: n masks.
        others: m masks over the same image.
        at_least: an IoU below it becomes 0. The higher it is, the fewer pairs of crops are compared.

    Returns:
        (n, m) float64. Two masks without a pixel have an IoU of 1.

    Raises:
        ParameterError: the masks are over images of different sizes.

    Example:
        >>> masks = Masks.from_dense([[[1, 1, 0, 0]], [[0, 1, 1, 0]]])
        >>> mask_ious(masks, masks).round(2)
        array([[1.  , 0.33],
               [0.33, 1.  ]])
    """
    if masks.image_hw != others.image_hw:
        raise ParameterError(
            f"masks over images of (h, w) = {masks.image_hw} and {others.image_hw}; expected answers to the same image"
        )
    areas = masks.areas[:, None] + others.areas
    (start, end), (other_start, other_end) = _extents(masks), _extents(others)
    overlap = (np.minimum(end[:, None], other_end) - np.maximum(start[:, None], other_start)).clip(0).prod(2)
    # No more pixels can be shared than the crops share, nor than the smaller mask has.
    at_most = np.minimum(overlap, np.minimum(masks.areas[:, None], others.areas))
    ious = np.zeros(areas.shape)
    pairs = np.argwhere((at_most > 0) & (at_most >= at_least * (areas - at_most)))
    shared = shared_in_pairs(masks, others, pairs)
    i, j = pairs.T
    ious[i, j] = shared / (areas[i, j] - shared)
    ious[ious < at_least] = 0
    ious[areas == 0] = 1
    return ious


def shared_in_pairs(
    masks: Masks, others: Masks, pairs: NDArray[np.int64], window_xyxy: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Pixels that are in both masks of each pair.

    Args:
        masks, others: over the same image.
        pairs: (p, 2) int64, rows of `masks` and of `others`; faster if pairs of the same first row follow one another.
        window_xyxy: (4,) int64, count inside it only; pixels of the image, right and bottom exclusive.

    Returns:
        (p,) int64.

    Example:
        >>> masks = Masks.from_dense([[[1, 1, 0]], [[0, 1, 1]]])
        >>> shared_in_pairs(masks, masks, np.array([[0, 0], [0, 1]])).tolist()
        [2, 1]
    """
    window = np.array([0, 0, *masks.image_hw[::-1]]) if window_xyxy is None else window_xyxy
    crops, other_crops = masks.crops, others.crops
    compiled = library()
    if compiled is not None:
        words, other_words = crops.as_words(masks.corners_xy), other_crops.as_words(others.corners_xy)
        return count_shared(compiled, words, other_words, pairs, window)
    shared = np.zeros(len(pairs), np.int64)
    row, part, corner = -1, np.zeros((0, 0), np.bool_), window[:2]
    for k, (i, j) in enumerate(pairs.tolist()):
        if i != row:  # packed masks make a crop each time
            row, (part, corner) = i, cut_at(crops[i], masks.corners_xy[i], window)
        shared[k] = shared_pixels(part, corner, other_crops[j], others.corners_xy[j])
    return shared


def cut_at(
    crop: NDArray[np.bool_], corner_xy: NDArray[np.int64], window_xyxy: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The part of a crop inside a window, and where it begins.

    Example:
        >>> part, corner = cut_at(np.ones((4, 6), bool), np.array([0, 0]), np.array([4, 1, 8, 4]))
        >>> part.shape, corner.tolist()
        ((3, 2), [4, 1])
    """
    corner = np.maximum(corner_xy, window_xyxy[:2])
    (x, y), (right, bottom) = (np.maximum(edge - corner_xy, 0) for edge in (corner, window_xyxy[2:]))
    return crop[y:bottom, x:right], corner


def mask_iou(masks: Masks, i: int, others: Masks, j: int) -> float:
    """IoU of mask `i` with mask `j` of others over the same image, counted on their crops; 1 if both are empty.

    Example:
        >>> masks = Masks.from_dense([[[1, 1, 0]], [[0, 1, 0]]])
        >>> mask_iou(masks, 0, masks, 1)
        0.5
    """
    shared = shared_pixels(masks.crops[i], masks.corners_xy[i], others.crops[j], others.corners_xy[j])
    union = int(masks.areas[i] + others.areas[j]) - shared
    return shared / union if union else 1.0


def boundary_f(
    mask: NDArray[np.bool_],
    corner_xy: NDArray[np.int64],
    other: NDArray[np.bool_],
    other_corner_xy: NDArray[np.int64],
    tolerance_px: float,
) -> float:
    """F-measure of two outlines: how much of each lies within the tolerance of the other.

    An outline is the pixels of a mask that have a neighbour (of four) outside it; the edge of the image counts as
    outside. F is the harmonic mean of the two shares; 1 if neither mask has a pixel.

    Args:
        mask, other: crops, bool (ch, cw), not cut where the mask goes on.
        corner_xy, other_corner_xy: left and top edge of each crop in the image, pixels.
        tolerance_px: Euclidean, pixels.

    Example:
        >>> square, corner = np.ones((9, 9), np.bool_), np.array([0, 0])
        >>> f"{boundary_f(square, corner, square, corner + 1, tolerance_px=1):.2f}"
        '0.97'
    """
    start = np.minimum(corner_xy, other_corner_xy)
    end = np.maximum(corner_xy + mask.shape[::-1], other_corner_xy + other.shape[::-1])
    outlines = np.zeros((2, *(end - start)[::-1]), np.uint8)
    for outline, crop, corner in zip(outlines, (mask, other), (corner_xy, other_corner_xy), strict=True):
        x, y = corner - start
        outline[y : y + crop.shape[0], x : x + crop.shape[1]] = _outline(crop)
    lengths = [np.count_nonzero(outline) for outline in outlines]
    if not all(lengths):
        return float(not any(lengths))
    outline, other_outline = outlines
    near = (
        _near(outline, other_outline, tolerance_px) / lengths[0],
        _near(other_outline, outline, tolerance_px) / lengths[1],
    )
    return 2 * near[0] * near[1] / sum(near) if any(near) else 0.0


def _extents(masks: Masks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n, 2) first and (n, 2) behind the last (x, y) of each crop."""
    return masks.corners_xy, masks.corners_xy + masks.sizes_wh


def shared_pixels(
    mask: NDArray[np.bool_], corner: NDArray[np.int64], other: NDArray[np.bool_], other_corner: NDArray[np.int64]
) -> int:
    """Pixels that are in both masks; `corner` and `other_corner` are the left and top edges of their crops (x, y).

    Example:
        >>> square = np.ones((3, 3), np.bool_)
        >>> shared_pixels(square, np.array([0, 0]), square, np.array([1, 2]))
        2
    """
    (x, y), (dx, dy) = (np.maximum(corner, other_corner) - start for start in (corner, other_corner))
    height = max(0, min(mask.shape[0] - y, other.shape[0] - dy))
    width = max(0, min(mask.shape[1] - x, other.shape[1] - dx))
    return int(np.count_nonzero(mask[y : y + height, x : x + width] & other[dy : dy + height, dx : dx + width]))


def _outline(crop: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """(ch, cw) uint8, 1 at pixels of the mask that have a neighbour outside."""
    if not crop.size:
        return np.zeros(crop.shape, np.uint8)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    pixels = crop.view(np.uint8)
    inner = cv2.erode(pixels, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    outline: NDArray[np.uint8] = cv2.subtract(pixels, inner)
    return outline


def _near(outline: NDArray[np.uint8], other: NDArray[np.uint8], tolerance_px: float) -> int:
    """How many pixels of the outline lie within the tolerance of the other one."""
    apart = cv2.bitwise_and(outline, 1 - other)
    if not apart.any():
        return int(np.count_nonzero(outline))
    x, y, width, height = cv2.boundingRect(apart)
    # Distances are needed only where the outlines part, and only as far as the tolerance.
    reach = int(tolerance_px) + 1
    top, left = max(0, y - reach), max(0, x - reach)
    window = np.s_[top : y + height + reach, left : x + width + reach]
    if not other[window].any():
        return int(np.count_nonzero(outline) - np.count_nonzero(apart))
    distance = cv2.distanceTransform(1 - other[window], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    far = np.count_nonzero((distance > tolerance_px) & apart[window].view(np.bool_))
    return int(np.count_nonzero(outline) - far)
