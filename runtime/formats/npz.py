"""NPZ: the columns as NumPy arrays, the crops of the masks as one string of bits.

The layout is that of `bits.pack_bytes`: the pixels of all crops one after the other, first pixel in the highest bit.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError
from ..masks.bits import pack_bytes, unpack_bytes
from ..masks.store import Masks
from . import Columns, LoadedColumns

SUFFIX = ".npz"


def encode(columns: Columns) -> bytes:
    """A compressed NPZ file.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> np.load(io.BytesIO(encode(Segments.empty((4, 5)))))["image_hw"]
        array([4, 5])
    """
    masks = columns.masks
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        image_hw=np.array(masks.image_hw),
        boxes_xyxy=columns.boxes_xyxy,
        scores=columns.scores,
        classes=columns.classes,
        prompts=columns.prompts,
        fits=columns.fits,
        probabilities=columns.probabilities,
        class_names=np.array(columns.class_names, dtype=str),
        corners_xy=masks.corners_xy,
        crop_hw=masks.sizes_wh[:, ::-1],
        crop_bits=_bits_of(masks),
    )
    return stream.getvalue()


def decode(content: bytes) -> LoadedColumns:
    """The columns of a file that `encode` wrote. Files of early versions, without probabilities, are read too.

    Raises:
        FastSamError: it is not such a file, or damaged.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> decode(encode(Segments.empty((4, 5)))).masks.image_hw
        (4, 5)
    """
    # Whatever zipfile, zlib and NumPy raise for bytes that are not theirs.
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return _columns_of(arrays)
    except (OSError, ValueError, TypeError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise FastSamError(f"{error}; expected a file that Segments.save wrote") from error


def _columns_of(arrays: Mapping[str, NDArray[Any]]) -> LoadedColumns:
    height, width = (int(side) for side in arrays["image_hw"])
    crop_hw = arrays["crop_hw"]
    unknown = np.full(len(crop_hw), np.nan, np.float32)
    crops = _crops_of(arrays["crop_bits"], crop_hw)
    return LoadedColumns(
        boxes_xyxy=arrays["boxes_xyxy"],
        scores=arrays["scores"],
        classes=arrays["classes"],
        masks=Masks.from_crops((height, width), crops, arrays["corners_xy"]),
        prompts=arrays["prompts"],
        fits=arrays["fits"],
        probabilities=arrays.get("probabilities", unknown),
        class_names=tuple(str(name) for name in arrays["class_names"]),
    )


def _bits_of(masks: Masks) -> NDArray[np.uint8]:
    pixels = np.empty(int(masks.sizes_wh.prod(1).sum()), np.bool_)
    first = 0
    for crop in masks.crops:
        pixels[first : first + crop.size] = crop.ravel()
        first += crop.size
    return pack_bytes(pixels)


def _crops_of(bits: NDArray[np.uint8], sizes_hw: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    first = 0
    for height, width in sizes_hw.tolist():
        yield unpack_bytes(bits, (height, width), first)
        first += height * width
