"""Segments as a transparent picture that lies over their image: a web page shows the image once, and layers over it."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from ..errors import ParameterError
from ..formats import Columns
from ..masks.label_map import painted
from .colors import segment_colors
from .overlay import edges

_COLORS = 127
"""A palette of 256 has room for as many tints and as many contours, beside the transparent background."""


def layer_png(
    segments: Columns,
    longest_px: int | None = None,
    *,
    alpha: float = 0.5,
    contours: bool = True,
    color_by: str | ArrayLike = "rank",
) -> bytes:
    """A PNG file of the tints and contours alone, transparent where there is no segment.

    It is what `draw_segments` adds to an image, but that colours repeat after 127 segments.

    Args:
        segments: n segments of one image.
        longest_px: of the picture, which is smaller than the image if that is larger; None: as large as the image.
        alpha: strength of the tints, from 0 (none) to 1 (opaque).
        contours: whether the edges of the visible parts are opaque.
        color_by: see `draw_segments`.

    Raises:
        ParameterError: an option is not as described.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> layer_png(Segments.empty((40, 60)), 30)[1:4]
        b'PNG'
    """
    if not 0 <= alpha <= 1:
        raise ParameterError(f"alpha is {alpha}, expected 0 … 1")
    colors = segment_colors(segments, color_by)
    labels = _fitted(painted(segments.masks, (1 + np.arange(len(colors)) % _COLORS).astype(np.uint8)), longest_px)
    if contours:
        labels[edges(labels) > 0] += _COLORS
    palette = np.zeros((1 + 2 * _COLORS, 3), np.uint8)
    used = min(len(colors), _COLORS)
    palette[1 : 1 + used] = palette[1 + _COLORS : 1 + _COLORS + used] = colors[:used]
    opacity = bytes([0, *[round(255 * alpha)] * _COLORS, *[255] * _COLORS])
    picture = Image.fromarray(labels)
    picture.putpalette(palette.tobytes())
    content = BytesIO()
    picture.save(content, "PNG", transparency=opacity, compress_level=1)
    return content.getvalue()


def _fitted(labels: NDArray[np.uint8], longest_px: int | None) -> NDArray[np.uint8]:
    """The labels in a picture that is not larger than it may be; none is mixed with another."""
    scale = 1.0 if longest_px is None else longest_px / max(labels.shape)
    if scale >= 1:
        return labels
    height, width = (max(1, round(side * scale)) for side in labels.shape)
    smaller: NDArray[np.uint8] = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return smaller
