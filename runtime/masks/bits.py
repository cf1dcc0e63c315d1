"""Pixels of masks as bits: the two layouts, and the only functions that know them.

**In memory**, on the host as on a device, each row of a crop starts a new 32-bit word. The leftmost pixel is the lowest
bit of a word; bits past the width are 0. A CUDA thread can therefore write a word of its own, and one shift
finds the bit of any pixel.

**In files and on the wire** the pixels follow one another row by row without padding. The first pixel is the highest
bit of a byte, as `numpy.packbits` writes it; the last byte is filled with 0. Programs in other languages read this
layout, so it stays.

Conversion unpacks one crop at a time, at 20 to 50 GB/s either way: less than it costs to read the pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32


def words_per_row(widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Words that a row takes in crops of these widths, in pixels.

    Example:
        >>> words_per_row(np.array([0, 1, 32, 33]))
        array([0, 1, 1, 2])
    """
    return -(-widths // WORD_BITS)


def pack_rows(pixels: NDArray[np.bool_], words: NDArray[np.uint32]) -> None:
    """Write pixels into words that are 0, in the layout of memory.

    Args:
        pixels: (rows, width) bool.
        words: (rows, words_per_row(width)) uint32, all 0.

    Example:
        >>> words = np.zeros((1, 2), np.uint32)
        >>> pack_rows(np.arange(34)[None] % 33 == 0, words)  # pixels 0 and 33
        >>> words
        array([[1, 2]], dtype=uint32)
    """
    nbytes = -(-pixels.shape[1] // 8)
    words.view(np.uint8)[:, :nbytes] = np.packbits(pixels, axis=1, bitorder="little")


def unpack_rows(words: NDArray[np.uint32], width: int) -> NDArray[np.bool_]:
    """The (rows, width) bool pixels that `pack_rows` wrote into (rows, words_per_row(width)) words.

    Example:
        >>> unpack_rows(np.array([[5]], np.uint32), 4)
        array([[ True, False,  True, False]])
    """
    return np.unpackbits(words.view(np.uint8), axis=1, count=width, bitorder="little").view(np.bool_)


def cut_rows(words: NDArray[np.uint32], left: int, width: int) -> NDArray[np.uint32]:
    """The words of pixels left ≤ x < left + width, without unpacking.

    Args:
        words: (rows, words_per_row(w)) uint32, of rows of w ≥ left + width pixels.

    Returns:
        (rows, words_per_row(width)) uint32, new.

    Example:
        >>> cut_rows(np.array([[1 << 31, 3]], np.uint32), 31, 2)  # pixels 31, 32 and 33
        array([[3]], dtype=uint32)
    """
    first, shift = divmod(left, WORD_BITS)
    count = -(-width // WORD_BITS)
    cut: NDArray[np.uint32] = words[:, first : first + count] >> np.uint32(shift)
    if shift:
        after = words[:, first + 1 : first + 1 + count]
        cut[:, : after.shape[1]] |= after << np.uint32(WORD_BITS - shift)
    if width % WORD_BITS:
        cut[:, -1] &= np.uint32((1 << width % WORD_BITS) - 1)
    return cut


def pack_bytes(pixels: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pixels of any shape as bytes, in the layout of files and of the wire.

    Example:
        >>> pack_bytes(np.eye(3, dtype=bool))
        array([136, 128], dtype=uint8)
    """
    return np.packbits(pixels)


def unpack_bytes(data: NDArray[np.uint8], size_hw: tuple[int, int], first: int = 0) -> NDArray[np.bool_]:
    """(h, w) bool pixels from what `pack_bytes` wrote.

    Args:
        data: bytes of one crop, or of several that follow one another without padding.
        size_hw: (h, w) of the crop, pixels.
        first: number of the crop's first pixel in `data`.

    Raises:
        ValueError: the size is negative, or the data end before the crop does.

    Example:
        >>> unpack_bytes(np.array([136, 128], np.uint8), (3, 3)).astype(int)
        array([[1, 0, 0],
               [0, 1, 0],
               [0, 0, 1]])
    """
    height, width = size_hw
    end = first + height * width
    if min(size_hw) < 0 or end > 8 * len(data):
        raise ValueError(f"{len(data)} bytes of mask bits; a crop of {height} × {width} pixels ends at bit {end}")
    bits = np.unpackbits(data[first // 8 : -(-end // 8)], count=first % 8 + height * width)
    return bits[first % 8 :].view(np.bool_).reshape(height, width)
