"""What the kernels need to know of a letterbox: tables of its axes, the same for all images of one size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..stages.letterbox import Letterbox, Resampling, mask_resampling
from .records import ALIGNMENT, MASK_TAP_DTYPE, PLACE_DTYPE, RESIZE_TAP_DTYPE

_KEPT = 64
"""Geometries whose tables are kept, for all models: a camera has one, a folder of photographs a few."""

_SHARE_ONE = 2048

_FEW_ROWS = 0.9
"""Where a resize reads fewer of the image's rows, only those are uploaded."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The tables of a letterbox, ready to be uploaded.

    Attributes:
        place: the letterbox.
        rows: (n,) int64, the rows of the image that the resize reads, ascending; None: all.
        packed: uint8, the four tables one after the other: RESIZE_TAP_DTYPE of the resized image's rows and columns,
            MASK_TAP_DTYPE of the image's rows and columns. Rows are numbered as in `rows`.
        offsets: where each of them begins in `packed`, bytes.
        record: bytes of one PLACE_DTYPE, what a place says of the letterbox.
        upload_hw: (h, w) of what is uploaded of the image.
        nbytes: room in the upload for that and the tables.

    Example:
        >>> from fastsam_deploy.runtime.stages.letterbox import fit
        >>> tables = Tables.of(fit((480, 640), (640, 640)), (160, 160))
        >>> tables.part("mask_rows").shape, tables.part("mask_columns").shape, tables.part("resize_rows").shape
        ((480,), (640,), (480,))
        >>> Tables.of(fit((4000, 6000), (640, 1024)), (160, 256)).upload_hw
        (1280, 6000)
    """

    place: Letterbox
    rows: NDArray[np.int64] | None
    packed: NDArray[np.uint8]
    offsets: tuple[int, ...]
    record: bytes
    upload_hw: tuple[int, int]
    nbytes: int

    @classmethod
    def of(cls, place: Letterbox, prototypes_hw: tuple[int, int]) -> Tables:
        """The tables of a letterbox, for prototypes of (H / 4, W / 4)."""
        vertical, horizontal = mask_resampling(place, prototypes_hw)
        (image_h, image_w), (drawn_h, drawn_w) = place.image_hw, place.drawn_hw
        resize_rows = resize_table(image_h, drawn_h, stops_at_border=False)
        rows: NDArray[np.int64] | None = np.union1d(resize_rows["near"], resize_rows["far"]).astype(np.int64)
        if rows is not None and len(rows) < image_h * _FEW_ROWS:
            for name in ("near", "far"):
                resize_rows[name] = np.searchsorted(rows, resize_rows[name])
        else:
            rows = None
        columns = resize_table(image_w, drawn_w, stops_at_border=True)
        packed, offsets = _packed(resize_rows, columns, axis_table(vertical), axis_table(horizontal))
        height = image_h if rows is None else len(rows)
        nbytes = aligned(height * image_w * 3) + len(packed)
        return cls(place, rows, packed, offsets, _record(place), (height, image_w), nbytes)

    def part(self, name: str) -> NDArray[Any]:
        """One of the tables: "resize_rows", "resize_columns", "mask_rows" or "mask_columns"."""
        i = TABLES.index(name)
        (image_h, image_w), (drawn_h, drawn_w) = self.place.image_hw, self.place.drawn_hw
        dtype, count = (RESIZE_TAP_DTYPE, MASK_TAP_DTYPE)[i // 2], (drawn_h, drawn_w, image_h, image_w)[i]
        return self.packed[self.offsets[i] : self.offsets[i] + count * dtype.itemsize].view(dtype)


TABLES = ("resize_rows", "resize_columns", "mask_rows", "mask_columns")
"""In the order of `Tables.packed`."""


@lru_cache(_KEPT)
def tables_for(place: Letterbox, prototypes_hw: tuple[int, int]) -> Tables:
    """`Tables.of`, made once for the geometries that were used last.

    Example:
        >>> from fastsam_deploy.runtime.stages.letterbox import fit
        >>> place = fit((480, 640), (640, 640))
        >>> tables_for(place, (160, 160)) is tables_for(place, (160, 160))
        True
    """
    return Tables.of(place, prototypes_hw)


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


def aligned(nbytes: int) -> int:
    """The next multiple of ALIGNMENT.

    Example:
        >>> aligned(17)
        32
    """
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _packed(*tables: NDArray[Any]) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    ends = np.cumsum([aligned(table.nbytes) for table in tables]).tolist()
    offsets = (0, *ends[:-1])
    packed = np.zeros(ends[-1], np.uint8)
    for table, offset in zip(tables, offsets, strict=True):
        packed[offset : offset + table.nbytes] = table.view(np.uint8)
    return packed, offsets


def _record(place: Letterbox) -> bytes:
    record = np.zeros((), PLACE_DTYPE)
    record["image_h"], record["image_w"] = place.image_hw
    record["drawn_h"], record["drawn_w"] = place.drawn_hw
    record["drawn_x"], record["drawn_y"] = place.drawn_xy
    record["pad_x"], record["pad_y"] = place.pad_xy
    record["scale_x"], record["scale_y"] = place.scale_xy
    return record.tobytes()
