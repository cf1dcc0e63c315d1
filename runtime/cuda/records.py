"""What lies in device memory between the stages, as NumPy types.

The layouts are those of kernels/layout.cuh; a test holds that sizes and offsets agree. Whatever depends on an image
lies in one upload (upload.py), so that a captured graph serves images of any size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..stages.letterbox import TAPS

PLACE_DTYPE = np.dtype(
    [(name, "<i8") for name in ("image_at", "resize_rows_at", "resize_columns_at", "mask_rows_at", "mask_columns_at")]
    + [(name, "<i4") for name in ("image_h", "image_w", "drawn_h", "drawn_w", "drawn_y", "drawn_x")]
    + [(name, "<f4") for name in ("pad_x", "pad_y", "scale_x", "scale_y", "conf", "iou")]
    + [("max_det", "<i4"), ("reserved", "<i4")]
)
"""Where an image of the batch lies and what is asked of it. All zero: a row past the group, with nothing to do."""

RESIZE_TAP_DTYPE = np.dtype([("near", "<i4"), ("far", "<i4"), ("near_share", "<i2"), ("far_share", "<i2")])
MASK_TAP_DTYPE = np.dtype([("first", "<i4"), ("share", "<f4", (TAPS,))])
CANDIDATE_DTYPE = np.dtype(
    [(name, "<f4") for name in ("x1", "y1", "x2", "y2", "score")]
    + [(name, "<i4") for name in ("class_id", "anchor", "reserved")]
)
SUMMARY_DTYPE = np.dtype([(name, "<i4") for name in ("candidates", "kept", "flags", "reserved")])
"""For each image: scores above `conf`, detections, and flags for `refuse_nonfinite`."""

DETECTION_DTYPE = np.dtype(
    [(name, "<f4") for name in ("x1", "y1", "x2", "y2", "score")]
    + [(name, "<i4") for name in ("class_id", "anchor", "area", "left", "top", "width", "height")]
    + [("first_word", "<i8"), ("pitch", "<i4"), ("image", "<i4")]
)
"""One detection: box in pixels of the image, before it is snapped to the border; crop and area of its mask; where the
bits of the crop lie among the words of the answer. Rows past an image's `kept` hold anything."""

_COLUMNS = DETECTION_DTYPE.itemsize // 4

ALIGNMENT = 16
"""Bytes. Everything in an upload begins at a multiple of it: a tap of a mask is one load."""

NONFINITE = {1: "scores", 2: "boxes or classes", 4: "mask coefficients", 8: "prototypes"}
"""Flags of SUMMARY_DTYPE, as in layout.cuh, and what holds NaN or infinity."""


def refuse_nonfinite(flags: int) -> None:
    """
    Args:
        flags: of an image's SUMMARY_DTYPE.

    Raises:
        ModelError: the network's output held NaN or infinity where it counts, as `decode` and `assemble` raise it.

    Example:
        >>> refuse_nonfinite(0)
        >>> refuse_nonfinite(8)
        Traceback (most recent call last):
            ...
        fastsam_deploy.runtime.errors.ModelError: the network's prototypes hold NaN or infinity; ...
    """
    if flags:
        where = ", ".join(name for bit, name in NONFINITE.items() if flags & bit)
        raise ModelError(
            f"the network's {where} hold NaN or infinity; expected finite numbers; an FP16 file can overflow on an "
            "image: use the FP32 one"
        )


def boxes_of(detections: NDArray[Any]) -> NDArray[np.float32]:
    """(n, 4) float32 boxes of (n,) DETECTION_DTYPE, pixels of the image.

    Example:
        >>> boxes_of(np.zeros(3, DETECTION_DTYPE)).shape
        (3, 4)
    """
    columns = np.ndarray((len(detections), _COLUMNS), np.float32, np.ascontiguousarray(detections).data)
    boxes: NDArray[np.float32] = columns[:, :4].copy()  # x1, y1, x2, y2
    return boxes


def offset_of(dtype: np.dtype[Any], name: str) -> int:
    """Bytes before a field of a record.

    Example:
        >>> offset_of(DETECTION_DTYPE, "area")
        28
    """
    assert dtype.fields is not None
    return int(dtype.fields[name][1])
