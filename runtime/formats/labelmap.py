"""Label map: a grey PNG of 16 bits as large as the image; each pixel has the number of its segment, 0 for none.

Number 1 is the segment with the highest score, 2 the next one, and so on; of equal scores, the first in the answer. A
pixel holds one number only: where segments overlap, the smallest is seen, as in overlays.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ParameterError
from ..masks.label_map import painted
from . import Columns

SUFFIX = ".png"

MAX_SEGMENTS = (1 << 16) - 1
"""What 16 bits can number."""


def encode(columns: Columns) -> bytes:
    """A PNG file.

    Raises:
        ParameterError: there are more than 65535 segments.
        FastSamError: OpenCV cannot write an image of this size.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> encode(Segments.empty((4, 5)))[:4]
        b'\\x89PNG'
    """
    height, width = columns.masks.image_hw
    try:
        done, content = cv2.imencode(SUFFIX, label_map(columns))
    except cv2.error as error:
        raise FastSamError(
            f"OpenCV cannot write {height} × {width} as PNG ({error}); save the segments as .npz"
        ) from error
    if not done:
        raise FastSamError(f"OpenCV cannot write {height} × {width} as PNG; save the segments as .npz")
    return content.tobytes()


def label_map(columns: Columns) -> NDArray[np.uint16]:
    """(h, w) uint16, the number of the segment at each pixel.

    Raises:
        ParameterError: there are more than 65535 segments.

    Example:
        >>> from fastsam_deploy.runtime import Masks, Segments
        >>> masks = Masks.from_dense([[[1, 1, 1, 0]], [[0, 1, 0, 0]]])
        >>> scores = np.array([0.5, 0.9], np.float32)
        >>> label_map(Segments.unprompted(masks.boxes_xyxy(), scores, np.zeros(2, np.int64), masks)).tolist()
        [[2, 1, 2, 0]]
    """
    n = len(columns.masks)
    if n > MAX_SEGMENTS:
        raise ParameterError(f"{n} segments, expected at most {MAX_SEGMENTS}; write fewer: segments[:{MAX_SEGMENTS}]")
    numbers = np.empty(n, np.uint16)
    numbers[np.argsort(-columns.scores, kind="stable")] = np.arange(1, n + 1)
    return painted(columns.masks, numbers)
