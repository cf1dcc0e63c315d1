"""Masks of one bit a pixel: what is found is kept so, and unpacked crop by crop when somebody looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from .store import Masks, Rows, row_numbers

WORD_BITS = 32

_PAIRS = 1 << 20
"""Pairs of mask and point that are looked at together: 40 MB of numbers."""


class PackedMasks(Masks):
    """`Masks` whose crops lie bit-packed in one array, an eighth of what they take as bools.

    A row of a crop begins with a word of 32 pixels of its own; the leftmost pixel is the lowest bit. What is past the
    crop's width in the last word of a row is 0. Unpacking costs less than anything that looks at the pixels then
    (15 GB/s), so crops are not kept unpacked.
    """

    sizes_wh: NDArray[np.int64]
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
        own = {"image_hw": image_hw, "corners_xy": corners_xy, "areas": areas, "sizes_wh": sizes_wh}
        self.__dict__.update(own, _words=words, _starts=starts)

    @property
    def crops(self) -> Sequence[NDArray[np.bool_]]:  # a field of Masks
        """See Masks. Made each time: kept, it would be a cycle that holds the memory until the collector comes."""
        return _Unpacked(self)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, rows: Rows) -> Masks:
        """A sub-set; see `Masks.__getitem__`. It stays packed."""
        chosen = row_numbers(rows, len(self))
        words, starts = self._words, self._starts[chosen]
        sizes = self.sizes_wh[chosen]
        counts = words_of_row(sizes[:, 0]) * sizes[:, 1]
        if 2 * counts.sum() < len(words):  # one answer of many should not keep the memory of all
            parts = [words[start : start + count] for start, count in zip(starts, counts, strict=True)]
            words = np.concatenate(parts) if parts else np.zeros(0, np.uint32)
            starts = np.cumsum(counts) - counts
        return PackedMasks(self.image_hw, self.corners_xy[chosen], sizes, self.areas[chosen], words, starts)

    def contain(self, points_xy: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `Masks.contain`; looks at single bits, of all masks at once."""
        held = np.zeros((len(self), len(points_xy)), np.bool_)
        x, y = np.ascontiguousarray(points_xy.T, np.int64)
        step = max(1, _PAIRS // max(len(points_xy), 1))
        for first in range(0, len(self), step):
            some = slice(first, first + step)
            # As unsigned numbers, what is left of or above a crop is larger than any width.
            left, top = x - self.corners_xy[some, :1], y - self.corners_xy[some, 1:]
            width, height = self.sizes_wh[some, :1].view(np.uint64), self.sizes_wh[some, 1:].view(np.uint64)
            row, point = np.nonzero((left.view(np.uint64) < width) & (top.view(np.uint64) < height))
            column = left[row, point]
            places = self._starts[some][row] + top[row, point] * words_of_row(self.sizes_wh[some, 0])[row]
            words = self._words[places + column // WORD_BITS]
            held[first + row, point] = words >> (column % WORD_BITS).astype(np.uint32) & 1
        return held

    def bits(self, i: int) -> NDArray[np.uint8]:
        """Crop `i` as it is kept: (height, bytes of a row) uint8, a view."""
        width, height = self.sizes_wh[i].tolist()
        pitch = -(-width // WORD_BITS)
        start = int(self._starts[i])
        return self._words[start : start + height * pitch].view(np.uint8).reshape(height, pitch * 4)

    def fill(self, i: int, strips: Iterable[tuple[int, NDArray[np.bool_]]]) -> None:
        """Write crop `i` of masks that `empty_masks` made, and count its pixels.

        Args:
            strips: first row and (rows, width) bool of each part of the crop.
        """
        bits = self.bits(i)
        for row, strip in strips:
            bits[row : row + len(strip), : -(-strip.shape[1] // 8)] = np.packbits(strip, axis=1, bitorder="little")
            self.areas[i] += np.count_nonzero(strip)


class _Unpacked(Sequence[NDArray[np.bool_]]):
    """The crops of packed masks, each made when it is asked for."""

    def __init__(self, masks: PackedMasks) -> None:
        self._masks = masks

    def __len__(self) -> int:
        return len(self._masks)

    @overload
    def __getitem__(self, i: int) -> NDArray[np.bool_]: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[NDArray[np.bool_]]: ...
    def __getitem__(self, i: int | slice) -> NDArray[np.bool_] | Sequence[NDArray[np.bool_]]:
        if isinstance(i, slice):
            return [self[row] for row in range(*i.indices(len(self)))]
        width = int(self._masks.sizes_wh[i][0])
        return np.unpackbits(self._masks.bits(i), axis=1, count=width, bitorder="little").view(np.bool_)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self[i] for i in range(len(self)))


def words_of_row(widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Words that a row of each crop takes, for crops of these widths in pixels."""
    return -(-widths // WORD_BITS)


def empty_masks(image_hw: tuple[int, int], corners_xy: NDArray[np.int64], sizes_wh: NDArray[np.int64]) -> PackedMasks:
    """Masks without a pixel, for `fill`."""
    counts = words_of_row(sizes_wh[:, 0]) * sizes_wh[:, 1]
    words = np.zeros(int(counts.sum()), np.uint32)  # one piece: the system hands it out faster than many
    areas = np.zeros(len(sizes_wh), np.int64)
    return PackedMasks(image_hw, corners_xy, sizes_wh, areas, words, np.cumsum(counts) - counts)
