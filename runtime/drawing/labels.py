"""Boxes and labels of segments, each in the segment's colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_LUMA = np.array([0.299, 0.587, 0.114])
_BRIGHT = 140.0
"""Luma above which text is black."""


def draw_labels(
    image: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], texts: Sequence[str], colors: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The image with a label at each box, beside other labels where there is room. Labels of small boxes lie on top.

    Args:
        image: (h, w, 3) uint8 RGB.
        boxes_xyxy: (n, 4) pixels.
        texts: n lines; an empty one has no label.
        colors: (n, 3) uint8 RGB, behind the text.

    Returns:
        (h, w, 3) uint8 RGB, a new array.

    Example:
        >>> box = np.array([[8, 30, 60, 60]], np.float32)
        >>> drawn = draw_labels(np.zeros((64, 64, 3), np.uint8), box, ["cat"], np.array([[0, 255, 0]], np.uint8))
        >>> bool(drawn[:30].any()), bool(drawn[30:].any())
        (True, False)
    """
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    size_px = max(12, round(max(image.shape[:2]) / 60))
    font = ImageFont.load_default(size_px)
    taken = np.zeros((0, 4))
    for i in np.argsort(-_areas(boxes_xyxy), kind="stable").tolist():
        if texts[i]:
            left, top, right, bottom = draw.textbbox((0, 0), texts[i], font)
            extent = np.array([right - left, bottom - top]) + size_px // 2
            place = _place(boxes_xyxy[i], extent, (image.shape[1], image.shape[0]), taken)
            taken = np.concatenate([taken, [place]])
            draw.rectangle((*place[:2], *(place[2:] - 1)), fill=tuple(colors[i].tolist()))
            origin = place[:2] + size_px // 4 - (left, top)
            dark = float(colors[i] @ _LUMA) > _BRIGHT
            draw.text(tuple(origin), texts[i], (0, 0, 0) if dark else (255, 255, 255), font)
    return np.array(canvas)


def draw_boxes(
    image: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], colors: NDArray[np.uint8], width_px: int
) -> NDArray[np.uint8]:
    """The image with the edges of the boxes, which lie inside them; those of small boxes lie on top.

    Args:
        image: (h, w, 3) uint8 RGB.
        boxes_xyxy: (n, 4) pixels.
        colors: (n, 3) uint8 RGB.
        width_px: of the lines.

    Returns:
        (h, w, 3) uint8 RGB, a new array.

    Example:
        >>> box, green = np.array([[1, 1, 4, 4]], np.float32), np.array([[0, 255, 0]], np.uint8)
        >>> draw_boxes(np.zeros((5, 5, 3), np.uint8), box, green, 1)[2, :, 1].tolist()
        [0, 255, 0, 255, 0]
    """
    drawn: NDArray[np.uint8] = image.copy()
    inside = np.rint(boxes_xyxy).astype(int).clip(0, np.tile(image.shape[1::-1], 2))
    for i in np.argsort(-_areas(boxes_xyxy), kind="stable").tolist():
        left, top, right, bottom = inside[i].tolist()
        across, along = min(width_px, right - left), min(width_px, bottom - top)
        for rows, columns in (
            (slice(top, top + along), slice(left, right)),
            (slice(bottom - along, bottom), slice(left, right)),
            (slice(top, bottom), slice(left, left + across)),
            (slice(top, bottom), slice(right - across, right)),
        ):
            drawn[rows, columns] = colors[i]
    return drawn


def _areas(boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    sides: NDArray[np.float32] = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1)
    return sides


def _place(
    box_xyxy: NDArray[np.float32], extent_wh: NDArray[np.float64], image_wh: tuple[int, int], taken: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Left, top, right, bottom of a label: at a corner of its box where no other label is, else above the box."""
    left, top, right, bottom = box_xyxy.tolist()
    width, height = extent_wh.tolist()
    corners = [(left, top - height), (left, top), (right - width, top - height), (right - width, top)]
    corners += [(left, bottom - height), (right - width, bottom - height), (left, bottom)]
    starts = np.rint(corners).clip(0, np.maximum(np.array(image_wh) - extent_wh, 0))
    places = np.concatenate([starts, starts + extent_wh], 1)
    shared = np.minimum(places[:, None, 2:], taken[:, 2:]) - np.maximum(places[:, None, :2], taken[:, :2])
    free = ~(shared > 0).all(2).any(1)
    best: NDArray[np.float64] = places[int(free.argmax())]
    return best
