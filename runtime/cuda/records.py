"""What lies in device memory between the stages, as NumPy types; the upload that is made of images, and the answer.

The layouts are those of kernels/layout.cuh; a test holds that sizes and offsets agree. Whatever depends on an image
lies in one upload, so that a captured graph serves images of any size: each image, then the tables of its axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, ModelError
from ..settings import Thresholds
from ..stages.decode import largest_float32_below
from ..stages.letterbox import TAPS, Letterbox, Resampling, mask_resampling

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

_ALIGNMENT = 16
NONFINITE = {1: "scores", 2: "boxes or classes", 4: "mask coefficients", 8: "prototypes"}
"""Flags of SUMMARY_DTYPE, as in layout.cuh, and what holds NaN or infinity."""

_SHARE_ONE = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """What the kernels need to know of a letterbox; the same for all images of one size.

    Attributes:
        place: the letterbox.
        resize_rows, resize_columns: (drawn height,), (drawn width,) RESIZE_TAP_DTYPE.
        mask_rows, mask_columns: (image height,), (image width,) MASK_TAP_DTYPE.

    Example:
        >>> from fastsam_deploy.runtime.stages.letterbox import fit
        >>> tables = Tables.of(fit((480, 640), (640, 640)), (160, 160))
        >>> tables.mask_rows.shape, tables.mask_columns.shape, tables.resize_rows.shape
        ((480,), (640,), (480,))
    """

    place: Letterbox
    resize_rows: NDArray[Any]
    resize_columns: NDArray[Any]
    mask_rows: NDArray[Any]
    mask_columns: NDArray[Any]

    @classmethod
    def of(cls, place: Letterbox, prototypes_hw: tuple[int, int]) -> Tables:
        """The tables of a letterbox, for prototypes of (H / 4, W / 4)."""
        rows, columns = mask_resampling(place, prototypes_hw)
        (image_h, image_w), (drawn_h, drawn_w) = place.image_hw, place.drawn_hw
        return cls(
            place,
            resize_table(image_h, drawn_h, stops_at_border=False),
            resize_table(image_w, drawn_w, stops_at_border=True),
            axis_table(rows),
            axis_table(columns),
        )

    @property
    def nbytes(self) -> int:
        """Room in the upload for the tables and one image."""
        height, width = self.place.image_hw
        return _aligned(height * width * 3) + sum(_aligned(table.nbytes) for table in self._parts())

    def _parts(self) -> tuple[NDArray[Any], ...]:
        return self.resize_rows, self.resize_columns, self.mask_rows, self.mask_columns


def axis_table(axis: Resampling) -> NDArray[Any]:
    """(side,) MASK_TAP_DTYPE: the three prototypes of each pixel and their shares.

    Example:
        >>> from fastsam_deploy.runtime.stages.letterbox import fit
        >>> rows, columns = mask_resampling(fit((32, 64), (32, 64)), (8, 16))
        >>> axis_table(columns)["first"][:8].tolist()
        [0, 0, 0, 0, 0, 0, 1, 1]
    """
    table = np.zeros(len(axis.first), MASK_TAP_DTYPE)
    table["first"] = axis.first
    table["share"] = axis.shares
    return table


def resize_table(source: int, target: int, stops_at_border: bool) -> NDArray[Any]:
    """(target,) RESIZE_TAP_DTYPE: the two pixels that `cv2.resize` (INTER_LINEAR, uint8) mixes, and their shares.

    Args:
        source, target: pixels of the image and of the resized one along the axis.
        stops_at_border: for columns. OpenCV gives a column outside of the outermost centres one pixel with the share
            1, a row the same pixel twice with two shares, each of which is rounded.

    Example:
        >>> resize_table(4, 2, stops_at_border=True)["near"].tolist()
        [0, 2]
    """
    step = 1.0 / (target / source)
    at = ((np.arange(target) + 0.5) * step - 0.5).astype(np.float32)
    near = np.floor(at).astype(np.int64)
    share = at - near.astype(np.float32)
    if stops_at_border:
        share[(near < 0) | (near >= source - 1)] = 0
    table = np.zeros(target, RESIZE_TAP_DTYPE)
    table["near"] = near.clip(0, source - 1)
    table["far"] = (near + 1).clip(0, source - 1)
    table["near_share"] = np.rint((np.float32(1) - share) * np.float32(_SHARE_ONE))
    table["far_share"] = np.rint(share * np.float32(_SHARE_ONE))
    return table


def pack(
    images: Sequence[NDArray[np.uint8]],
    tables: Sequence[Tables],
    thresholds: Sequence[Thresholds],
    upload: NDArray[np.uint8],
    places: NDArray[Any],
) -> int:
    """Write the upload of a batch.

    Args:
        images: (h, w, 3) uint8 RGB, of any strides.
        tables, thresholds: one for each image.
        upload: (bytes,) to write to, at least the sum of `Tables.nbytes`; starts on 16 bytes in device memory.
        places: (batch,) PLACE_DTYPE to write to; rows past the images become zero.

    Returns:
        Bytes of the upload that are in use.

    Raises:
        ImageError: an image is not of its table's size.
        ValueError: the upload or the places are too small.

    Example:
        >>> from fastsam_deploy.runtime.stages.letterbox import fit
        >>> tables = Tables.of(fit((32, 64), (32, 64)), (8, 16))
        >>> upload, places = np.zeros(tables.nbytes, np.uint8), np.zeros(1, PLACE_DTYPE)
        >>> used = pack([np.zeros((32, 64, 3), np.uint8)], [tables], [Thresholds()], upload, places)
        >>> used == tables.nbytes, int(places["image_w"][0])
        (True, 64)
    """
    needed = sum(table.nbytes for table in tables)
    if len(upload) < needed or len(places) < len(images):
        raise ValueError(
            f"upload of {len(upload)} bytes and {len(places)} places, expected {needed} bytes and {len(images)} places"
        )
    places[...] = np.zeros(1, PLACE_DTYPE)
    at = 0
    for image, table, asked, row in zip(images, tables, thresholds, places, strict=False):
        place = table.place
        if image.shape != (*place.image_hw, 3) or image.dtype != np.uint8:
            raise ImageError(f"image is {image.dtype} {image.shape}, expected uint8 {(*place.image_hw, 3)}")
        row["image_at"] = at
        np.copyto(upload[at : at + image.size].reshape(image.shape), image)
        at += _aligned(image.size)
        names = ("resize_rows_at", "resize_columns_at", "mask_rows_at", "mask_columns_at")
        for name, part in zip(names, table._parts(), strict=True):
            row[name] = at
            upload[at : at + part.nbytes] = part.view(np.uint8)
            at += _aligned(part.nbytes)
        _describe(row, place, asked)
    return at


def _describe(row: Any, place: Letterbox, asked: Thresholds) -> None:
    """The fields of a Place that are no offsets."""
    row["image_h"], row["image_w"] = place.image_hw
    row["drawn_h"], row["drawn_w"] = place.drawn_hw
    row["drawn_x"], row["drawn_y"] = place.drawn_xy
    row["pad_x"], row["pad_y"] = place.pad_xy
    row["scale_x"], row["scale_y"] = place.scale_xy
    row["conf"] = asked.conf
    row["iou"] = largest_float32_below(asked.iou)
    row["max_det"] = min(asked.max_det, np.iinfo(np.int32).max)


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
    return np.stack([detections[name] for name in ("x1", "y1", "x2", "y2")], axis=1)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT
