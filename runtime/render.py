"""Images of an answer: overlays, prompts, cut-outs and masks; and writing them to files.

No function allocates n full-size masks: segments are painted crop by crop into one label map.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import FastSamError, ParameterError
from .prompts.base import PromptKind, listed
from .prompts.marks import BoxMarks, LineMark, PointMarks
from .segments import Prompt, Segments
from .system.atomic import write_atomically

_GOLDEN_RATIO = 0.618033988749895
_FOREGROUND, _BACKGROUND, _BOX = (40, 200, 60), (230, 50, 40), (255, 190, 0)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SHIFT = 4  # fractional bits of coordinates for cv2, which then draws at 1/16 of a pixel

_ENCODINGS: dict[str, list[int]] = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 92],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 92],
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 4],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 92],
}


def distinct_colors(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Colours that are easy to tell apart, above all neighbours in the list. Colour i does not depend on `count`.

    Args:
        count: number of colours.
        seed: another seed gives other colours.

    Returns:
        (count, 3) uint8 RGB.

    Example:
        >>> distinct_colors(2).tolist()
        [[255, 231, 38], [193, 102, 255]]
    """
    i = np.arange(count) + 1.0
    hue = (0.53 + seed * 0.137 + i * _GOLDEN_RATIO) % 1.0
    # Hues alone look alike after a dozen, so saturation and brightness alternate with other periods.
    saturation = np.array([0.85, 0.6, 1.0])[np.arange(count) % 3]
    value = np.array([1.0, 0.8])[np.arange(count) // 3 % 2]
    hsv = np.stack([hue * 360, saturation, value], -1).astype(np.float32)
    rgb = np.zeros((count, 3), np.uint8)
    rgb[:] = np.rint(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] * 255) if count else 0
    return rgb


def draw_segments(
    image: NDArray[np.uint8],
    segments: Segments,
    *,
    alpha: float = 0.5,
    contours: bool = True,
    colors: ArrayLike | None = None,
) -> NDArray[np.uint8]:
    """The image with a tint over each segment. Where segments overlap, the smaller is visible.

    Args:
        image: (h, w, 3) uint8 RGB, the image of the segments. It is not changed.
        segments: the segments to draw.
        alpha: strength of the tint, from 0 (none) to 1 (opaque).
        contours: whether to draw the edge of the visible part of each segment in its full colour.
        colors: one RGB colour for all, or (n, 3), in 0 … 255; None: `distinct_colors`.

    Returns:
        (h, w, 3) uint8 RGB, a new array.

    Raises:
        ParameterError: image, alpha or colors do not fit.

    Example:
        >>> from fastsam_deploy.runtime import Masks
        >>> masks = Masks.from_dense([[[1, 1, 0, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> image = np.zeros((1, 4, 3), np.uint8)
        >>> draw_segments(image, segments, colors=(200, 0, 0), contours=False)[0, :, 0].tolist()
        [100, 100, 0, 0]
    """
    _check_image(image, segments)
    if not 0 <= alpha <= 1:
        raise ParameterError(f"alpha is {alpha}, expected 0 … 1")
    labels = _label_map(segments)
    tint = cv2.applyColorMap(labels, _palette(segments, colors))
    drawn: NDArray[np.uint8] = cv2.addWeighted(image, 1 - alpha, tint, alpha, 0)
    cv2.copyTo(image, (labels == 0).view(np.uint8), drawn)
    if contours:
        cv2.copyTo(tint, _edges(labels), drawn)
    return drawn


def draw_prompts(image: NDArray[np.uint8], prompt: Prompt | Sequence[Prompt] | None) -> NDArray[np.uint8]:
    """The image with the prompt on it: foreground points green, background points red, boxes and lines yellow.

    Args:
        image: (h, w, 3) uint8 RGB. It is not changed.
        prompt: one or several. Nothing is drawn for prompts without coordinates (Everything, Text), nor for those that
            are not a `PromptKind`.

    Returns:
        (h, w, 3) uint8 RGB, a new array.

    Example:
        >>> from fastsam_deploy.runtime import Points
        >>> draw_prompts(np.zeros((64, 64, 3), np.uint8), Points([32, 32]))[32, 32].tolist()
        [40, 200, 60]
    """
    drawn: NDArray[np.uint8] = image.copy()
    thickness = _line_width(image.shape) + 1
    kinds = [kind for kind in listed(prompt) if isinstance(kind, PromptKind)]
    marks = [mark for kind in kinds for mark in kind.marks()]
    for boxes in (mark for mark in marks if isinstance(mark, BoxMarks)):
        _draw_boxes(drawn, boxes, thickness)
    for line in (mark for mark in marks if isinstance(mark, LineMark)):
        _draw_line(drawn, line, thickness)
    for points in (mark for mark in marks if isinstance(mark, PointMarks)):  # last, as they are the smallest
        _draw_points(drawn, points, thickness)
    return drawn


def cutout(image: NDArray[np.uint8], segments: Segments, i: int) -> NDArray[np.uint8]:
    """Segment `i` alone, cropped to the extent of its mask and transparent outside it.

    Args:
        image: (h, w, 3) uint8 RGB, the image of the segments.
        segments: n segments.
        i: row of the segment, 0 … n - 1.

    Returns:
        (ch, cw, 4) uint8 RGBA, transparent black outside the mask.

    Raises:
        ParameterError: the image is of another size, or the mask is empty.

    Example:
        >>> from fastsam_deploy.runtime import Masks
        >>> masks = Masks.from_dense([[[0, 1, 1, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> cutout(np.full((1, 4, 3), 7, np.uint8), segments, 0).tolist()
        [[[7, 7, 7, 255], [7, 7, 7, 255]]]
    """
    _check_image(image, segments)
    row = segments.masks[[i]]
    left, top, right, bottom = row.boxes_xyxy()[0].astype(int).tolist()
    if right <= left:
        raise ParameterError(f"segment {i} has no pixel; expected a mask that is not empty; leave the segment out")
    x, y = row.corners_xy[0].tolist()
    mask = row.crops[0][top - y : bottom - y, left - x : right - x]
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[..., :3] = image[top:bottom, left:right] * mask[..., None]
    rgba[..., 3] = mask * np.uint8(255)
    return rgba


def mask_image(segments: Segments, i: int) -> NDArray[np.uint8]:
    """Mask `i` at the size of the image: (h, w) uint8, 255 inside, 0 outside.

    Example:
        >>> from fastsam_deploy.runtime import Masks
        >>> masks = Masks.from_dense([[[0, 1, 1, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> mask_image(segments, 0).tolist()
        [[0, 255, 255, 0]]
    """
    image: NDArray[np.uint8] = segments.masks.full(i) * np.uint8(255)
    return image


def save_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write an image file atomically.

    Args:
        path: the suffix is .png, .jpg, .jpeg or .webp.
        image: uint8, (h, w) grey, (h, w, 3) RGB or (h, w, 4) RGBA.

    Raises:
        FastSamError: another suffix, alpha in a JPEG, or the folder is not writable.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     save_image(f"{folder}/white.png", np.full((4, 6), 255, np.uint8))
        ...     cv2.imread(f"{folder}/white.png").shape
        (4, 6, 3)
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _ENCODINGS:
        raise FastSamError(f"{path}: suffix {path.suffix!r}, expected one of {', '.join(_ENCODINGS)}")
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels == 4 and suffix in (".jpg", ".jpeg"):
        raise FastSamError(f"{path}: JPEG has no transparency; write a cut-out as .png or .webp")
    if channels > 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA if channels == 4 else cv2.COLOR_RGB2BGR)
    try:
        done, encoded = cv2.imencode(suffix, image, _ENCODINGS[suffix])
    except cv2.error as error:
        raise FastSamError(f"{path}: OpenCV cannot write {image.shape} as {suffix} ({error}); try .png") from error
    if not done:
        raise FastSamError(f"{path}: OpenCV cannot write {image.shape} as {suffix}; try .png")
    # Not synced: an image has dozens of masks, each sync takes milliseconds, and masks can be drawn again.
    write_atomically(path, encoded.tobytes(), synced=False)


def _draw_boxes(drawn: NDArray[np.uint8], boxes: BoxMarks, thickness: int) -> None:
    for left, top, right, bottom in _fixed_point(boxes.xyxy - (0, 0, 1, 1)):
        for color, width in ((_BLACK, thickness + 2), (_BOX, thickness)):
            cv2.rectangle(drawn, (left, top), (right, bottom), color, width, cv2.LINE_AA, _SHIFT)


def _draw_line(drawn: NDArray[np.uint8], line: LineMark, thickness: int) -> None:
    corners = np.array(_fixed_point(line.xy - 0.5), np.int32).reshape(-1, 1, 2)
    for color, width in ((_BLACK, thickness + 2), (_BOX, thickness)):
        cv2.polylines(drawn, [corners], line.closed, color, width, cv2.LINE_AA, _SHIFT)


def _draw_points(drawn: NDArray[np.uint8], points: PointMarks, thickness: int) -> None:
    radius = 3 * thickness << _SHIFT
    for center, foreground in zip(_fixed_point(points.xy - 0.5), points.foreground, strict=True):
        cv2.circle(drawn, center, radius, _FOREGROUND if foreground else _BACKGROUND, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(drawn, center, radius, _WHITE, thickness, cv2.LINE_AA, _SHIFT)


def _check_image(image: NDArray[np.uint8], segments: Segments) -> None:
    if image.shape != (*segments.image_hw, 3) or image.dtype != np.uint8:
        height, width = segments.image_hw
        raise ParameterError(
            f"image is {image.dtype} {image.shape}, the segments are of an image of uint8 ({height}, {width}, 3); "
            "give the array that load_image returned for the segmented image"
        )


def _label_map(segments: Segments) -> NDArray[np.uint8]:
    """(h, w) uint8: 0 for no segment, else 1 + (index of the smallest segment there) % 255.

    8 bits are enough, as the map only selects colours; beyond 255 segments the colours repeat.
    """
    labels = np.zeros(segments.image_hw, np.uint8)
    # Large ones first. Of equal areas, the first in `segments`, which has the higher score, is painted last.
    for i in np.lexsort((np.arange(len(segments)), segments.areas))[::-1].tolist():
        crop = segments.masks.crops[i]
        x, y = segments.masks.corners_xy[i].tolist()
        np.copyto(labels[y : y + crop.shape[0], x : x + crop.shape[1]], np.uint8(1 + i % 255), where=crop)
    return labels


def _palette(segments: Segments, colors: ArrayLike | None) -> NDArray[np.uint8]:
    """(256, 1, 3) uint8: the colour of each label."""
    n = len(segments)
    rgb = distinct_colors(n) if colors is None else np.asarray(colors)
    if rgb.shape not in ((3,), (n, 3)) or not ((rgb >= 0) & (rgb <= 255)).all():
        raise ParameterError(f"colors have shape {rgb.shape}; expected one RGB colour or ({n}, 3), in 0 … 255")
    palette = np.zeros((256, 1, 3), np.uint8)
    count = min(n, 255)
    palette[1 : count + 1, 0] = np.broadcast_to(rgb, (n, 3))[:count]
    return palette


def _edges(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) uint8, not 0 at labelled pixels that are within the line width of another label."""
    kernel = np.ones((2 * _line_width(labels.shape) + 1,) * 2, np.uint8)
    change = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, kernel)
    edges: NDArray[np.uint8] = cv2.min(change, labels)
    return edges


def _line_width(shape: tuple[int, ...]) -> int:
    """Width in pixels: 1 for images of up to 1000 pixels on the longer side, then in proportion to it."""
    return max(1, round(max(shape[:2]) / 1000))


def _fixed_point(coordinates: NDArray[np.float64]) -> list[list[int]]:
    """Pixels as fixed-point numbers for cv2, with `_SHIFT` fractional bits."""
    rounded: list[list[int]] = np.rint(coordinates * (1 << _SHIFT)).astype(int).tolist()
    return rounded
