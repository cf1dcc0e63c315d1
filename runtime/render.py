"""Images of an answer: overlays, prompts, cut-outs and masks; and writing them to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .drawing.colors import distinct_colors
from .drawing.overlay import check_image, draw_segments, line_width
from .errors import FastSamError, ParameterError
from .prompts.base import PromptKind, listed
from .prompts.marks import BoxMarks, LineMark, PointMarks
from .segments import Prompt, Segments
from .system.atomic import write_atomically

__all__ = [
    "crop",
    "cutout",
    "distinct_colors",
    "draw_prompts",
    "draw_segments",
    "encode_image",
    "mask_image",
    "save_image",
]

_FOREGROUND, _BACKGROUND, _BOX = (40, 200, 60), (230, 50, 40), (255, 190, 0)
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SHIFT = 4  # fractional bits of coordinates for cv2, which then draws at 1/16 of a pixel

_ENCODINGS: dict[str, list[int]] = {
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 92],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 92],
    ".png": [cv2.IMWRITE_PNG_COMPRESSION, 4],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 92],
}


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
    thickness = line_width(image.shape) + 1
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
    left, top, right, bottom = _extent(image, segments, i)
    row = segments.masks[[i]]
    x, y = row.corners_xy[0].tolist()
    mask = row.crops[0][top - y : bottom - y, left - x : right - x]
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[..., :3] = image[top:bottom, left:right] * mask[..., None]
    rgba[..., 3] = mask * np.uint8(255)
    return rgba


def crop(image: NDArray[np.uint8], segments: Segments, i: int) -> NDArray[np.uint8]:
    """The rectangle of the image around the mask of segment `i`.

    Args:
        image: (h, w, 3) uint8 RGB, the image of the segments.
        segments: n segments.
        i: row of the segment, 0 … n - 1.

    Returns:
        (ch, cw, 3) uint8 RGB, a view of the image.

    Raises:
        ParameterError: the image is of another size, or the mask is empty.

    Example:
        >>> from fastsam_deploy.runtime import Masks
        >>> masks = Masks.from_dense([[[0, 1, 1, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> crop(np.full((1, 4, 3), 7, np.uint8), segments, 0).shape
        (1, 2, 3)
    """
    left, top, right, bottom = _extent(image, segments, i)
    return image[top:bottom, left:right]


def _extent(image: NDArray[np.uint8], segments: Segments, i: int) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the mask of segment `i`, pixels. Raises ParameterError."""
    check_image(image, segments)
    left, top, right, bottom = segments.masks[[i]].boxes_xyxy()[0].astype(int).tolist()
    if right <= left:
        raise ParameterError(f"segment {i} has no pixel; expected a mask that is not empty; leave the segment out")
    return left, top, right, bottom


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
    # Not synced: an image has dozens of masks, each sync takes milliseconds, and masks can be drawn again.
    write_atomically(path, encode_image(path, image), synced=False)


def encode_image(path: str | Path, image: NDArray[np.uint8]) -> bytes:
    """The content of an image file of this name. Nothing is written.

    Args:
        path, image: see `save_image`.

    Raises:
        FastSamError: another suffix, or alpha in a JPEG.

    Example:
        >>> encode_image("white.png", np.full((4, 6), 255, np.uint8))[1:4]
        b'PNG'
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
    content: bytes = encoded.tobytes()
    return content


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


def _fixed_point(coordinates: NDArray[np.float64]) -> list[list[int]]:
    """Pixels as fixed-point numbers for cv2, with `_SHIFT` fractional bits."""
    rounded: list[list[int]] = np.rint(coordinates * (1 << _SHIFT)).astype(int).tolist()
    return rounded
