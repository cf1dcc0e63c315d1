"""Segments drawn over their image. They are painted crop by crop into one map: no n full-size masks."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ParameterError
from ..formats import NO_TRACK, Columns
from ..masks.label_map import painted
from .colors import segment_colors
from .labels import draw_boxes, draw_labels

Contours = bool | Literal["only"]
"""Whether edges are drawn, or they alone, without tints."""


def draw_segments(
    image: NDArray[np.uint8],
    segments: Columns,
    *,
    alpha: float = 0.5,
    contours: Contours = True,
    colors: ArrayLike | None = None,
    color_by: str | ArrayLike = "rank",
    boxes: bool = False,
    labels: bool = False,
    scores: bool = False,
    ids: bool = False,
) -> NDArray[np.uint8]:
    """The image with a tint over each segment. Where segments overlap, the smaller is visible.

    Args:
        image: (h, w, 3) uint8 RGB, the image of the segments. It is not changed.
        segments: the segments to draw.
        alpha: strength of the tint, from 0 (none) to 1 (opaque).
        contours: whether to draw the edge of the visible part of each segment in its full colour; "only": no tints.
        colors: one RGB colour for all, or (n, 3), in 0 … 255; None: colours that are easy to tell apart.
        color_by: without `colors`, what has the same colour: "rank" (each row its own), "class", "prompt", "track",
            or n whole numbers.
        boxes: draw the boxes of the detections.
        labels: write the name of the class at each segment.
        scores: write the score.
        ids: write the number of the track, as #7.

    Returns:
        (h, w, 3) uint8 RGB, a new array.

    Raises:
        ParameterError: image, alpha, contours, colors or color_by do not fit.

    Example:
        >>> from fastsam_deploy.runtime import Masks, Segments
        >>> masks = Masks.from_dense([[[1, 1, 0, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> image = np.zeros((1, 4, 3), np.uint8)
        >>> draw_segments(image, segments, colors=(200, 0, 0), contours=False)[0, :, 0].tolist()
        [100, 100, 0, 0]
    """
    check_image(image, segments)
    if not 0 <= alpha <= 1:
        raise ParameterError(f"alpha is {alpha}, expected 0 … 1")
    if contours not in (True, False, "only"):
        raise ParameterError(f"contours is {contours!r}, expected True, False or 'only'")
    rgb = segment_colors(segments, color_by) if colors is None else _checked(colors, len(segments.scores))
    drawn = _tinted(image, segments, rgb, 0 if contours == "only" else alpha, bool(contours))
    if boxes:
        drawn = draw_boxes(drawn, segments.boxes_xyxy, rgb, line_width(image.shape) + 1)
    if labels or scores or ids:
        drawn = draw_labels(drawn, segments.boxes_xyxy, _texts(segments, labels, scores, ids), rgb)
    return drawn


def check_image(image: NDArray[np.uint8], segments: Columns) -> None:
    """
    Raises:
        ParameterError: it is no (h, w, 3) uint8 array, or of another size than the image of the segments.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> check_image(np.zeros((4, 5, 3), np.uint8), Segments.empty((4, 5)))
    """
    height, width = segments.masks.image_hw
    if image.shape != (height, width, 3) or image.dtype != np.uint8:
        raise ParameterError(
            f"image is {image.dtype} {image.shape}, the segments are of an image of uint8 ({height}, {width}, 3); "
            "give the array that load_image returned for the segmented image"
        )


def line_width(shape: tuple[int, ...]) -> int:
    """Width in pixels: 1 for images of up to 1000 pixels on the longer side, then in proportion to it.

    Example:
        >>> line_width((480, 640)), line_width((3000, 4000, 3))
        (1, 4)
    """
    return max(1, round(max(shape[:2]) / 1000))


def _tinted(
    image: NDArray[np.uint8], segments: Columns, rgb: NDArray[np.uint8], alpha: float, contours: bool
) -> NDArray[np.uint8]:
    # 8 bits are enough, as the map only selects colours; beyond 255 segments the colours repeat.
    n = len(rgb)
    labels = painted(segments.masks, (1 + np.arange(n) % 255).astype(np.uint8))
    palette = np.zeros((256, 1, 3), np.uint8)
    palette[1 : min(n, 255) + 1, 0] = rgb[:255]
    tint = cv2.applyColorMap(labels, palette)
    drawn: NDArray[np.uint8] = cv2.addWeighted(image, 1 - alpha, tint, alpha, 0)
    cv2.copyTo(image, (labels == 0).view(np.uint8), drawn)
    if contours:
        cv2.copyTo(tint, edges(labels), drawn)
    return drawn


def _checked(colors: ArrayLike, n: int) -> NDArray[np.uint8]:
    """(n, 3) uint8: the colour of each segment."""
    rgb = np.asarray(colors)
    if rgb.shape not in ((3,), (n, 3)) or not ((rgb >= 0) & (rgb <= 255)).all():
        raise ParameterError(f"colors have shape {rgb.shape}; expected one RGB colour or ({n}, 3), in 0 … 255")
    return np.broadcast_to(rgb, (n, 3)).astype(np.uint8)


def edges(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) uint8, not 0 at labelled pixels that are within the line width of another label.

    Example:
        >>> edges(np.array([[0, 0, 1, 1, 1]], np.uint8)).tolist()
        [[0, 0, 1, 0, 0]]
    """
    kernel = np.ones((2 * line_width(labels.shape) + 1,) * 2, np.uint8)
    change = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, kernel)
    edge: NDArray[np.uint8] = cv2.min(change, labels)
    return edge


def _texts(segments: Columns, labels: bool, scores: bool, ids: bool) -> list[str]:
    names = [segments.class_names[int(number)] if labels else "" for number in segments.classes]
    values = [f"{score:.2f}" if scores else "" for score in segments.scores]
    tracks = [f"#{number}" if ids and number != NO_TRACK else "" for number in segments.track_ids.tolist()]
    return [" ".join(filter(None, parts)) for parts in zip(names, tracks, values, strict=True)]
