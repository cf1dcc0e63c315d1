"""Masks of one bit a pixel, as the CUDA kernels write them: unpacked when somebody looks at the pixels."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .masks_store import Masks, Rows, row_numbers

WORD_BITS = 32


class PackedMasks(Masks):
    """`Masks` whose crops lie bit-packed in one array.

    A row of a crop begins with a word of 32 pixels of its own; the leftmost pixel is the lowest bit. What is past the
    crop's width in the last word of a row is 0.
    """

    _sizes_wh: NDArray[np.int64]
    _words: NDArray[np.uint32]
    _starts: NDArray[np.int64]

    def __init__(
        self,
        image_hw: tuple[int, int],
        corners_xy: NDArray[np.int64],
        sizes_wh: NDArray[np.int64],
        areas: NDArray[np.int64],
        words: NDArray[np.uint32],
        starts: NDArray[np.int64],
    ) -> None:
        """
        Args:
            image_hw: (h, w) of the image, pixels.
            corners_xy: (n, 2) int64, left and top edge of each crop.
            sizes_wh: (n, 2) int64, width and height of each crop.
            areas: (n,) int64, pixels of each mask.
            words: uint32, all crops; becomes this object's own.
            starts: (n,) int64, where each crop begins in `words`.
        """
        own = {"image_hw": image_hw, "corners_xy": corners_xy, "areas": areas}
        self.__dict__.update(own, _sizes_wh=sizes_wh, _words=words, _starts=starts)

    @cached_property
    def crops(self) -> tuple[NDArray[np.bool_], ...]:  # a field of Masks, made here late
        """See Masks."""
        return tuple(self._crop(i) for i in range(len(self)))

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, rows: Rows) -> Masks:
        """A sub-set; see `Masks.__getitem__`. What nobody has looked at stays packed."""
        if "crops" in self.__dict__:
            return super().__getitem__(rows)
        chosen = row_numbers(rows, len(self))
        return PackedMasks(
            self.image_hw,
            self.corners_xy[chosen],
            self._sizes_wh[chosen],
            self.areas[chosen],
            self._words,
            self._starts[chosen],
        )

    def contain(self, points_xy: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `Masks.contain`; looks at single bits."""
        held = np.zeros((len(self), len(points_xy)), np.bool_)
        places = zip(held, self._starts.tolist(), self._sizes_wh.tolist(), self.corners_xy, strict=True)
        for row, start, (width, height), corner in places:
            x, y = (points_xy - corner).T
            inside = np.flatnonzero((x >= 0) & (y >= 0) & (x < width) & (y < height))
            x, y = x[inside], y[inside]
            words = self._words[start + y * words_of_row(width) + x // WORD_BITS]
            row[inside] = words >> (x % WORD_BITS).astype(np.uint32) & 1
        return held

    def _crop(self, i: int) -> NDArray[np.bool_]:
        width, height = self._sizes_wh[i].tolist()
        pitch = words_of_row(width)
        start = int(self._starts[i])
        rows = self._words[start : start + height * pitch].view(np.uint8).reshape(height, pitch * 4)
        return np.unpackbits(rows, axis=1, count=width, bitorder="little").view(np.bool_)


def words_of_row(width: int) -> int:
    """Words that a row of a crop takes."""
    return -(-width // WORD_BITS)
