"""The upload of a batch: for each image what the resize reads of it and its tables, written in slices."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..settings import Thresholds
from ..stages.decode import largest_float32_below
from .records import PLACE_DTYPE, offset_of
from .tables import TABLES, Tables, aligned

_SLICE_BYTES = 2_000_000
"""While one slice goes to the device the next one is written. Smaller ones would cost more calls than they hide."""

_MOST_INT32 = 2**31 - 1
_OFFSETS = struct.Struct(f"<{1 + len(TABLES)}q")
"""Of a place: where the image and its tables begin."""
_ASKED = struct.Struct("<ffi")
"""conf, iou and max_det."""
_ASKED_AT = offset_of(PLACE_DTYPE, "conf")


def pack(
    images: Sequence[NDArray[np.uint8]],
    tables: Sequence[Tables],
    thresholds: Sequence[Thresholds],
    upload: NDArray[np.uint8],
    places: NDArray[Any],
    written: Callable[[int], None] = lambda end: None,
) -> int:
    """Write the upload of a batch.

    Args:
        images: (h, w, 3) uint8 RGB, of any strides.
        tables, thresholds: one for each image.
        upload: (bytes,) to write to, at least the sum of `Tables.nbytes`; starts on 16 bytes in device memory.
        places: (batch,) PLACE_DTYPE to write to; rows past the images become zero.
        written: is told, slice by slice, up to which byte the upload is written; the places are before the first call.

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
    _describe(images, tables, thresholds, places)
    at = told = 0
    for image, table in zip(images, tables, strict=True):
        height, width = table.upload_hw
        target = upload[at : at + height * width * 3].reshape(height, width, 3)
        step = -(-_SLICE_BYTES // (width * 3))
        for first in range(0, height, step):
            last = min(first + step, height)
            _copy_rows(image, table.rows, first, last, target)
            end = at + last * width * 3
            if last < height and end - told >= _SLICE_BYTES:
                written(end)
                told = end
        at += aligned(target.size)
        upload[at : at + len(table.packed)] = table.packed
        at += len(table.packed)
    written(at)
    return at


def _copy_rows(
    image: NDArray[np.uint8], rows: NDArray[np.int64] | None, first: int, last: int, target: NDArray[np.uint8]
) -> None:
    """Rows `first` to `last` of what is uploaded of an image."""
    if rows is None:
        target[first:last] = image[first:last]
    elif image.flags.c_contiguous:
        image.take(rows[first:last], axis=0, out=target[first:last], mode="clip")  # "raise" would use a buffer
    else:
        target[first:last] = image[rows[first:last]]


def _describe(
    images: Sequence[NDArray[np.uint8]],
    tables: Sequence[Tables],
    thresholds: Sequence[Thresholds],
    places: NDArray[Any],
) -> None:
    """Write the places."""
    if len(places) > len(images):
        places[len(images) :] = np.zeros((), PLACE_DTYPE)
    raw = places.view(np.uint8).data  # fields of a record, set one by one, take as long as the rest of a small upload
    start = at = 0
    for image, table, asked in zip(images, tables, thresholds, strict=True):
        if image.shape != (*table.place.image_hw, 3) or image.dtype != np.uint8:
            raise ImageError(f"image is {image.dtype} {image.shape}, expected uint8 {(*table.place.image_hw, 3)}")
        raw[start : start + PLACE_DTYPE.itemsize] = table.record
        height, width = table.upload_hw
        tables_at = at + aligned(height * width * 3)
        _OFFSETS.pack_into(raw, start, at, *[tables_at + offset for offset in table.offsets])
        _ASKED.pack_into(raw, start + _ASKED_AT, *_as_asked(asked))
        at = tables_at + len(table.packed)
        start += PLACE_DTYPE.itemsize


@lru_cache(64)
def _as_asked(asked: Thresholds) -> tuple[float, float, int]:
    """conf, iou and max_det as the kernels compare with them."""
    return asked.conf, float(largest_float32_below(asked.iou)), min(int(asked.max_det), _MOST_INT32)
