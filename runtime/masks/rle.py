"""COCO run-length encoding of a mask, from and to its crop.

Runs go down the columns of the image, background first. COCO writes their lengths as text, 5 bits a character.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..documents import quoted
from ..errors import FastSamError
from ..limits import MAX_CROP_PIXELS, MAX_SIDE
from ..native.calls import rle_text
from ..native.library import library
from .bits import unpack_rows

_LEAST_CHARACTER, _CONTINUES, _NEGATIVE = 48, 0x20, 0x10
_LONGEST_NUMBER = 9
"""Characters of a number in a text: 45 bits, more than the pixels of any image."""

_COCO_COUNTS = 2**32

Rle = Mapping[str, Any]
"""{"size": [h, w], "counts": str, or a list of lengths}."""


def encode(crop: NDArray[np.bool_], corner_xy: tuple[int, int], image_hw: tuple[int, int]) -> dict[str, Any]:
    """COCO RLE of one mask, {"size": [h, w], "counts": str}, equal to what pycocotools makes of the full-size mask.

    Args:
        crop: (ch, cw) bool; what lies outside is background.
        corner_xy: left and top edge of the crop in the image, pixels.
        image_hw: (h, w) of the image, pixels.

    Raises:
        FastSamError: the image has more pixels than COCO counts, 2**32.

    Example:
        >>> encode(np.ones((1, 2), bool), (1, 0), (2, 3))
        {'size': [2, 3], 'counts': '21100'}
    """
    from pycocotools import mask as coco

    height, width = image_hw
    _check_size(image_hw)
    x, y = int(corner_xy[0]), int(corner_xy[1])
    edges = _edges(crop, x * height + y, height)
    # A run that reaches the bottom and goes on at the top of the next column is one run in RLE.
    keep = np.ones(len(edges), np.bool_)
    touching = np.flatnonzero(edges[1:] == edges[:-1])
    keep[touching] = keep[touching + 1] = False
    counts = np.diff(np.concatenate(([0], edges[keep], [height * width])))
    if len(counts) > 1 and counts[-1] == 0:  # a mask that ends in the last corner: COCO writes no run after it
        counts = counts[:-1]
    packed = coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": [height, width], "counts": packed["counts"].decode("ascii")}


def encode_packed(
    words: NDArray[np.uint32], width: int, corner_xy: tuple[int, int], image_hw: tuple[int, int]
) -> dict[str, Any]:
    """As `encode`, of a crop whose pixels are bits.

    Args:
        words: (ch, words_per_row(width)) uint32; see `bits.py`.
        width: of the crop, pixels.
        corner_xy, image_hw: see `encode`.

    Example:
        >>> encode_packed(np.array([[3]], np.uint32), 2, (1, 0), (2, 3))
        {'size': [2, 3], 'counts': '21100'}
    """
    compiled = library()
    if compiled is None:
        return encode(unpack_rows(words, width), corner_xy, image_hw)
    _check_size(image_hw)
    counts = rle_text(compiled, words, (int(corner_xy[0]), int(corner_xy[1])), image_hw)
    return {"size": list(image_hw), "counts": counts.decode("ascii")}


def decode(rle: Rle, image_hw: tuple[int, int]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """The mask, cropped to its extent, and the crop's corner (x, y).

    Read here and not by pycocotools, whose C code trusts the runs to fit the image.

    Raises:
        FastSamError: the size is not the image's, it is no RLE, or the mask is larger than MAX_CROP_PIXELS.

    Example:
        >>> decode({"size": [2, 3], "counts": "21100"}, (2, 3))
        (array([[ True,  True]]), (1, 0))
    """
    try:
        size, counts = rle["size"], rle["counts"]
        runs = _runs_from_text(counts) if isinstance(counts, str) else _runs_from_list(counts)
        if not _are_whole(size):
            raise ValueError("size is no list of whole numbers")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FastSamError(
            f"mask is {quoted(rle)} ({error}), expected COCO RLE {{'size': [h, w], 'counts': …}}"
        ) from error
    if tuple(size) != image_hw or min(image_hw) < 0 or max(image_hw) > MAX_SIDE:
        raise FastSamError(f"mask of size {quoted(size)} for an image of (h, w) = {image_hw}; expected the same size")
    height, width = image_hw
    ends = np.cumsum(runs)
    if ((runs < 0) | (runs > height * width)).any() or (np.diff(ends) < 0).any() or ends[-1:].sum() != height * width:
        raise FastSamError(
            f"RLE runs hold {ends[-1:].sum()} pixels, the size {image_hw} has {height * width}; write it again"
        )
    inked = ends[1::2] > ends[:-1:2]
    starts, ends = ends[: len(inked) * 2 : 2][inked], ends[1::2][inked]
    if not len(starts):
        return np.zeros((0, 0), np.bool_), (0, 0)
    return _painted(starts, ends, height)


def _runs_from_list(counts: Any) -> NDArray[np.int64]:
    if not _are_whole(counts):
        raise ValueError("counts are neither a text nor a list of whole numbers")
    return np.array(counts, np.int64)


def _are_whole(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(value, int | np.integer) and not isinstance(value, bool) for value in values
    )


def _check_size(image_hw: tuple[int, int]) -> None:
    height, width = image_hw
    if height * width >= _COCO_COUNTS:
        raise FastSamError(f"an image of {width}×{height}: COCO RLE counts fewer than {_COCO_COUNTS} pixels")


def _edges(crop: NDArray[np.bool_], start: int, height: int) -> NDArray[np.int64]:
    """(k,) int64, where runs begin and end, ascending, counted down the columns of the image from its left top.

    Args:
        start: number of the crop's first pixel.
        height: of the image.
    """
    if not crop.size:
        return np.zeros(0, np.int64)
    # Rows are compared as they lie in memory and the few edges sorted: 4 times as fast as going down the columns.
    width = crop.shape[1]
    inner = np.flatnonzero((crop[1:] != crop[:-1]).ravel()) + width
    rows = (np.flatnonzero(crop[0]), inner, np.flatnonzero(crop[-1]) + crop.size)
    row, column = np.divmod(np.concatenate(rows), width)
    edges: NDArray[np.int64] = column * height + row
    edges.sort()
    return edges + start


def _painted(
    starts: NDArray[np.int64], ends: NDArray[np.int64], height: int
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """The crop and the corner of a mask with these runs of pixels. Only the columns it lies in are painted."""
    left, right = int(starts[0]) // height, int(ends[-1] - 1) // height + 1
    if (right - left) * height > MAX_CROP_PIXELS:
        raise FastSamError(
            f"RLE of a mask in {right - left:,} columns of {height:,} pixels; expected {MAX_CROP_PIXELS:,} pixels or "
            "fewer; save it as .npz, or make the image smaller"
        )
    changes = np.stack([starts, ends], 1).ravel() - left * height
    lengths = np.diff(changes, prepend=0, append=(right - left) * height)
    columns = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return np.ascontiguousarray(columns[:, top:bottom].T), (left, top)


def _runs_from_text(counts: str) -> NDArray[np.int64]:
    """COCO's compressed counts: 5 bits a character, low first; from the fourth run on, differences to two before."""
    codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - _LEAST_CHARACTER
    wrong = codes[(codes < 0) | (codes >= 1 << 6)]
    if len(wrong):
        raise ValueError(f"character {chr(int(wrong[0]) + _LEAST_CHARACTER)!r} is not in COCO's alphabet")
    last = np.flatnonzero((codes & _CONTINUES) == 0)  # of each number; what follows the last of them is dropped
    if not len(last):
        return np.zeros(0, np.int64)
    first = np.concatenate(([0], last[:-1] + 1))
    lengths = last - first + 1
    if lengths.max() > _LONGEST_NUMBER:
        raise ValueError("a run is longer than any image")
    place = np.arange(last[-1] + 1) - np.repeat(first, lengths)
    numbers = np.add.reduceat((codes[: last[-1] + 1] & 0x1F) << (5 * place), first)
    numbers -= ((codes[last] & _NEGATIVE) != 0) * (1 << (5 * lengths))
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    runs: NDArray[np.int64] = numbers
    return runs
