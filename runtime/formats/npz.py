"""NPZ: the columns as NumPy arrays, the crops of the masks as one string of bits.

The layout is that of `bits.pack_bytes`: the pixels of all crops one after the other, first pixel in the highest bit.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError
from ..limits import MAX_SEGMENTS, MAX_SIDE, check_mask_pixels
from ..masks.bits import pack_bytes, unpack_bytes
from ..masks.store import Masks
from ..spec import MAX_CLASSES
from . import NO_TRACK, Columns, LoadedColumns, is_tracked

SUFFIX = ".npz"

_LONGEST_ITEM_BYTES = 1 << 14
"""Of an array of texts: a name of 4096 characters."""


def encode(columns: Columns) -> bytes:
    """A compressed NPZ file.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> np.load(io.BytesIO(encode(Segments.empty((4, 5)))))["image_hw"]
        array([4, 5])
    """
    masks = columns.masks
    stream = io.BytesIO()
    tracks: dict[str, Any] = {"track_ids": columns.track_ids} if is_tracked(columns) else {}
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
        **tracks,
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
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _columns_of(_Arrays(archive))
    except (FastSamError, MemoryError):
        raise
    except Exception as error:  # whatever zipfile, its decompressors and NumPy raise for bytes that are not theirs
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FastSamError(f"{reason:.200}; expected a file that Segments.save wrote") from error


class _Arrays:
    """The arrays of an NPZ file, each read with its type and shape known before: an archive may claim anything."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._archive.NameToInfo

    def read(self, name: str, kinds: str, shape: tuple[int | None, ...], most: int = MAX_SEGMENTS) -> NDArray[Any]:
        """An array.

        Args:
            kinds: of its dtype, as in `dtype.kind`.
            shape: of it; a side of None is at most `most`.

        Raises:
            FastSamError: it is missing, or is of another type or shape.
        """
        if name not in self:
            raise FastSamError(f"has no array {name}; expected a file that Segments.save wrote")
        with self._archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            sides, by_columns, dtype = header(member)
            fits = len(sides) == len(shape) and all(
                0 <= side <= most if expected is None else side == expected
                for side, expected in zip(sides, shape, strict=True)
            )
            if dtype.kind not in kinds or dtype.itemsize > _LONGEST_ITEM_BYTES or not fits:
                told = str(tuple("n" if side is None else side for side in shape)).replace("'", "")
                raise FastSamError(
                    f"array {name} is {dtype} {sides}, expected {told} of kind {' or '.join(kinds)}; "
                    "expected a file that Segments.save wrote"
                )
            wanted = math.prod(sides) * dtype.itemsize
            data = member.read(wanted)
        if len(data) != wanted:
            raise FastSamError(f"array {name} ends after {len(data)} of {wanted} bytes; get the file again")
        array = np.frombuffer(data, dtype)
        return array.reshape(sides[::-1]).T if by_columns else array.reshape(sides)


def _columns_of(arrays: _Arrays) -> LoadedColumns:
    height, width = arrays.read("image_hw", "iu", (2,)).tolist()
    crop_hw = arrays.read("crop_hw", "iu", (None, 2)).astype(np.int64)
    n = len(crop_hw)
    pixels = int(crop_hw.clip(0, MAX_SIDE).prod(1).sum())  # other sides are refused below: masks lie in the image
    check_mask_pixels(pixels)
    bits = arrays.read("crop_bits", "u", (-(-pixels // 8),))
    return LoadedColumns(
        boxes_xyxy=arrays.read("boxes_xyxy", "f", (n, 4)),
        scores=arrays.read("scores", "f", (n,)),
        classes=arrays.read("classes", "iu", (n,)),
        masks=Masks.from_crops((height, width), _crops_of(bits, crop_hw), arrays.read("corners_xy", "iu", (n, 2))),
        prompts=arrays.read("prompts", "iu", (n,)),
        fits=arrays.read("fits", "f", (n,)),
        probabilities=(
            arrays.read("probabilities", "f", (n,)) if "probabilities" in arrays else np.full(n, np.nan, np.float32)
        ),
        class_names=tuple(arrays.read("class_names", "U", (None,), MAX_CLASSES).tolist()),
        track_ids=(arrays.read("track_ids", "iu", (n,)) if "track_ids" in arrays else np.full(n, NO_TRACK, np.int64)),
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
