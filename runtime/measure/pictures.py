"""Pictures that compare two answers: the image, the reference, the candidate, and where they differ, side by side."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..masks.store import Masks
from ..render import distinct_colors, draw_segments
from ..segments import Segments
from .fidelity import ImageFidelity

PANEL_PX = 480
"""Longest side of each of the four panels; smaller images keep their size."""

_ONLY_REFERENCE, _ONLY_CANDIDATE = (230, 50, 40), (70, 140, 255)
_BAR_PX, _GAP_PX = 26, 4
_NARROWEST_PX = 320  # room for a caption
_WHITE = (255, 255, 255)
_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


def draw_comparison(
    image: NDArray[np.uint8],
    reference: Segments,
    candidate: Segments,
    compared: ImageFidelity,
    names: tuple[str, str] = ("reference", "candidate"),
) -> NDArray[np.uint8]:
    """Draw four panels in a row, each with a caption above.

    The two segments of a pair have the same colour. What only the reference has is red, what only the candidate has is
    blue: whole segments without a partner and, in the last panel, also the pixels in which the segments of a pair
    differ.

    Args:
        image: (h, w, 3) uint8 RGB.
        reference, candidate: the answers to it.
        compared: result of `fidelity.compare` for them.
        names: of the two, for the captions. Characters other than ASCII become "?".

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ParameterError: the answers are for images of different sizes.

    Example:
        >>> a, b = reference.segment(image), candidate.segment(image)  # doctest: +SKIP
        >>> save_image(Path("compared.png"), draw_comparison(image, a, b, compare(a, b)))  # doctest: +SKIP
    """
    if candidate.image_hw != reference.image_hw:
        raise ParameterError(
            f"candidate for an image of (h, w) = {candidate.image_hw}, reference for one of {reference.image_hw}; "
            "expected answers to the same image"
        )
    count = len(compared.ious)
    colors = distinct_colors(count)
    panels = [_reduced(image)]
    for segments, rows, only in (
        (reference, compared.reference_rows, _ONLY_REFERENCE),
        (candidate, compared.candidate_rows, _ONLY_CANDIDATE),
    ):
        segment_colors = np.full((len(segments), 3), only, np.uint8)
        segment_colors[rows] = colors
        panels.append(_reduced(draw_segments(image, segments, colors=segment_colors)))
    panels.append(_difference(panels[0], _only_in_one(reference.masks, candidate.masks, compared)))
    captions = [
        f"{image.shape[1]} x {image.shape[0]}",
        f"{names[0]}: {len(reference)}",
        f"{names[1]}: {len(candidate)}, {count} matched",
        f"red: {names[0]} only, blue: {names[1]} only",
    ]
    return _in_a_row(panels, captions)


def _only_in_one(reference: Masks, candidate: Masks, compared: ImageFidelity) -> NDArray[np.uint8]:
    """(2, h, w) uint8, 1 where a segment of the reference, or of the candidate, has a pixel that its partner lacks."""
    only = np.zeros((2, *reference.image_hw), np.uint8)
    for i in compared.missed_rows.tolist():
        _window(only[0], reference, i)[:] |= reference.crops[i]
    for j in compared.extra_rows.tolist():
        _window(only[1], candidate, j)[:] |= candidate.crops[j]
    for i, j in zip(compared.reference_rows.tolist(), compared.candidate_rows.tolist(), strict=True):
        mask, partner = reference.full(i), candidate.full(j)
        only[0] |= mask & ~partner
        only[1] |= partner & ~mask
    return only


def _window(canvas: NDArray[np.uint8], masks: Masks, i: int) -> NDArray[np.uint8]:
    """The part of the canvas that a crop covers."""
    (x, y), (width, height) = masks.corners_xy[i].tolist(), masks.sizes_wh[i].tolist()
    return canvas[y : y + height, x : x + width]


def _reduced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce a picture to at most `PANEL_PX` on its longest side."""
    scale = PANEL_PX / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    smaller: NDArray[np.uint8] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return smaller


def _difference(panel: NDArray[np.uint8], only: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image in dim gray, coloured where the answers differ, even if only in one pixel at full size."""
    gray = cv2.cvtColor(panel, cv2.COLOR_RGB2GRAY) // 2
    drawn: NDArray[np.uint8] = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    reach = math.ceil(max(only.shape[1] / panel.shape[0], only.shape[2] / panel.shape[1]))
    colored = np.zeros(panel.shape, np.uint8)
    for pixels, color in zip(only, (_ONLY_REFERENCE, _ONLY_CANDIDATE), strict=True):
        grown = cv2.dilate(pixels, np.ones((reach, reach), np.uint8)) if reach > 1 else pixels
        shown = cv2.resize(grown, panel.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        colored = cv2.max(colored, shown[..., None] * np.array(color, np.uint8))  # both: magenta
    mixed = cv2.addWeighted(drawn, 0.3, colored, 0.7, 0)
    cv2.copyTo(mixed, colored.any(2).view(np.uint8), drawn)
    return drawn


def _in_a_row(panels: list[NDArray[np.uint8]], captions: list[str]) -> NDArray[np.uint8]:
    """Panels of the same size with black gaps, and a bar above each with its caption, cut off if it is too long."""
    height, width = panels[0].shape[:2]
    width = max(width, _NARROWEST_PX)
    row = np.zeros((_BAR_PX + height, len(panels) * (width + _GAP_PX) - _GAP_PX, 3), np.uint8)
    for i, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        cell = row[:, i * (width + _GAP_PX) :][:, :width]
        cell[_BAR_PX:, : panel.shape[1]] = panel
        bar = np.zeros((_BAR_PX, width, 3), np.uint8)
        text = caption.encode("ascii", "replace").decode()
        cv2.putText(bar, text, (2, _BAR_PX - 9), _FONT, _FONT_SCALE, _WHITE, 1, cv2.LINE_AA)
        cell[:_BAR_PX] = bar
    return row
