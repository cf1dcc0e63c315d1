"""YOLO: a label file as ultralytics trains on, one line for each segment: class number, then a polygon.

Coordinates are in [0, 1]: pixels divided by the width and the height of the image. The polygon runs through the centres
of the outermost pixels (see `masks.centre_lines`), so that ultralytics' loader, which fills a polygon with its outline,
gets the pixels of the mask back.

A line holds a single polygon. As in ultralytics' own labels, the parts of a mask are joined by lines without width.
Unlike there, holes are kept: each is joined to the outline by a seam. A mask without pixels has no line.
"""

from __future__ import annotations

import numpy as np

from ..masks.centre_lines import centre_lines, in_one_ring
from . import Columns

SUFFIX = ".txt"

_DIGITS = 6  # 0.1 px in an image of 100 000


def encode(columns: Columns, *, tolerance_px: float = 0.0) -> bytes:
    """A label file.

    Args:
        columns: the segments of one image.
        tolerance_px: see `lines`.

    Raises:
        ParameterError: the tolerance is negative.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> encode(Segments.empty((4, 5)))
        b''
    """
    return "".join(f"{line}\n" for line in lines(columns, tolerance_px=tolerance_px)).encode()


def lines(columns: Columns, *, tolerance_px: float = 0.0) -> list[str]:
    """The lines of a label file, without line breaks.

    Args:
        columns: the segments of one image.
        tolerance_px: leave out corners that lie at most this far from the simplified outline; 0: keep all.

    Raises:
        ParameterError: the tolerance is negative.

    Example:
        >>> import numpy as np
        >>> from fastsam_deploy.runtime import Masks, Segments
        >>> masks = Masks.from_dense([[[0, 1, 1, 0], [0, 1, 1, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> lines(segments)
        ['0 0.375000 0.250000 0.625000 0.250000 0.625000 0.750000 0.375000 0.750000']
    """
    size_wh = np.array(columns.masks.image_hw[::-1])
    outlines = centre_lines(columns.masks, tolerance_px)
    return [
        " ".join([str(int(number)), *(f"{side:.{_DIGITS}f}" for side in ((in_one_ring(parts) + 0.5) / size_wh).flat)])
        for number, parts in zip(columns.classes, outlines, strict=True)
        if parts
    ]
