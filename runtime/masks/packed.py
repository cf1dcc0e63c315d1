"""Crops of masks in host memory, one bit a pixel, unpacked one by one when their pixels are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ..native.calls import CropWords, count_inside
from ..native.library import library
from .bits import WORD_BITS, cut_rows, pack_rows, unpack_rows, words_per_row

_PAIRS = 1 << 20
"""Pairs of mask and point that are looked up together: 40 MB of numbers."""


class PackedCrops(Sequence[NDArray[np.bool_]]):
    """n crops of bits in one array of words (`bits.py` has the layout). `crops[i]` unpacks one: (ch, cw) bool, a copy.

    Two objects are equal if their crops have the same pixels. They have no hash.

    Attributes:
        sizes_wh: (n, 2) int64, width and height of each crop, pixels.
        areas: (n,) int64, pixels of each mask.
        words: uint32, the words of all crops. Several objects may share them, and a crop may be left out.
        starts: (n,) int64, where each crop begins in `words`.

    Example:
        >>> crops = PackedCrops.of([np.ones((2, 3), bool), np.eye(40, dtype=bool)])
        >>> crops.sizes_wh.tolist(), len(crops.words)
        ([[3, 2], [40, 40]], 82)
        >>> crops[0]
        array([[ True,  True,  True],
               [ True,  True,  True]])
    """

    __slots__ = ("areas", "sizes_wh", "starts", "words")

    def __init__(
        self,
        sizes_wh: NDArray[np.int64],
        areas: NDArray[np.int64],
        words: NDArray[np.uint32],
        starts: NDArray[np.int64] | None = None,
    ) -> None:
        """
        Args:
            starts: None if the crops follow one another in `words`.
        """
        self.sizes_wh = sizes_wh
        self.areas = areas
        self.words = words
        if starts is None:
            counts = _word_counts(sizes_wh)
            starts = np.cumsum(counts) - counts
        self.starts = starts

    @classmethod
    def blank(cls, sizes_wh: NDArray[np.int64]) -> PackedCrops:
        """Crops without a pixel, for `write`.

        Example:
            >>> crops = PackedCrops.blank(np.array([[2, 1]]))
            >>> crops.write(0, [(0, np.array([[False, True]]))])
            >>> crops[0], crops.areas
            (array([[False,  True]]), array([1]))
        """
        # One piece: the system hands it out faster than many.
        words = np.zeros(int(_word_counts(sizes_wh).sum()), np.uint32)
        return cls(sizes_wh, np.zeros(len(sizes_wh), np.int64), words)

    @classmethod
    def of(cls, crops: Iterable[NDArray[np.bool_]]) -> PackedCrops:
        """Pack (ch, cw) bool crops, one at a time.

        Raises:
            ValueError: a crop is of another type.
        """
        sizes, areas, parts = [], [], []
        for i, crop in enumerate(crops):
            if crop.ndim != 2 or crop.dtype != np.bool_:
                raise ValueError(f"crop {i} is {crop.dtype} {crop.shape}, expected bool (ch, cw)")
            height, width = crop.shape
            words = np.zeros((height, -(-width // WORD_BITS)), np.uint32)
            pack_rows(crop, words)
            sizes.append((width, height))
            areas.append(np.count_nonzero(crop))
            parts.append(words)
        return cls(np.array(sizes, np.int64).reshape(-1, 2), np.array(areas, np.int64), _in_one_piece(parts))

    @classmethod
    def joined(cls, parts: Sequence[PackedCrops]) -> PackedCrops:
        """All crops of one or more parts, in their order. Words that parts share are kept once."""
        first_words: dict[int, int] = {}
        arrays: list[NDArray[np.uint32]] = []
        total = 0
        for part in parts:
            if id(part.words) not in first_words:
                first_words[id(part.words)] = total
                arrays.append(part.words)
                total += len(part.words)
        return cls(
            np.concatenate([part.sizes_wh for part in parts]),
            np.concatenate([part.areas for part in parts]),
            arrays[0] if len(arrays) == 1 else np.concatenate(arrays),
            np.concatenate([part.starts + first_words[id(part.words)] for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, i: int) -> NDArray[np.bool_]: ...
    @overload
    def __getitem__(self, i: slice) -> PackedCrops: ...
    def __getitem__(self, i: int | slice) -> NDArray[np.bool_] | PackedCrops:
        if isinstance(i, slice):
            return self.take(np.arange(len(self))[i])
        return unpack_rows(self.words_of(i), int(self.sizes_wh[i, 0]))

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self[i] for i in range(len(self)))

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedCrops):
            return NotImplemented
        if not np.array_equal(self.sizes_wh, other.sizes_wh):
            return False
        return all(np.array_equal(self.words_of(i), other.words_of(i)) for i in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes held; shared words count in full."""
        return sum(array.nbytes for array in (self.sizes_wh, self.areas, self.words, self.starts))

    def words_of(self, i: int) -> NDArray[np.uint32]:
        """(ch, words of a row) uint32, crop `i` as it lies in memory: a view."""
        width, height = self.sizes_wh[i].tolist()
        pitch = -(-width // WORD_BITS)
        start = int(self.starts[i])
        return self.words[start : start + height * pitch].reshape(height, pitch)

    def take(self, numbers: NDArray[np.int64]) -> PackedCrops:
        """The crops of these numbers, in that order. They share the words, unless they use less than half of them: a
        single mask should not keep the memory of all.
        """
        sizes, areas, starts = self.sizes_wh[numbers], self.areas[numbers], self.starts[numbers]
        counts = _word_counts(sizes)
        if 2 * counts.sum() >= len(self.words):
            return PackedCrops(sizes, areas, self.words, starts)
        parts = [self.words[start : start + count] for start, count in zip(starts, counts, strict=True)]
        return PackedCrops(sizes, areas, np.concatenate(parts) if parts else np.zeros(0, np.uint32))

    def extents(self) -> NDArray[np.int64]:
        """(n, 4) int64: x, y, width and height of the part that each mask covers of its crop; 0 for an empty mask.

        Example:
            >>> PackedCrops.of([np.eye(4, dtype=bool)[:, 2:]]).extents()
            array([[0, 2, 2, 2]])
        """
        extents = np.zeros((len(self), 4), np.int64)
        for i, extent in enumerate(extents):
            words = self.words_of(i)
            rows = np.flatnonzero(words.any(axis=1))
            if len(rows):
                any_row = np.bitwise_or.reduce(words[rows[0] : rows[-1] + 1], axis=0, keepdims=True)
                columns = np.flatnonzero(unpack_rows(any_row, int(self.sizes_wh[i, 0])))
                extent[:2], extent[2:] = (columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)
        extents[:, 2:] -= extents[:, :2]
        return extents

    def cut(self, parts_xywh: NDArray[np.int64]) -> PackedCrops:
        """Crops cut to a part that holds all pixels of the mask; these crops if each part is the whole.

        Args:
            parts_xywh: (n, 4) int64, x, y, width and height of the parts, pixels of the crops.
        """
        sizes = parts_xywh[:, 2:]
        if np.array_equal(sizes, self.sizes_wh):
            return self
        parts = enumerate(parts_xywh.tolist())
        words = _in_one_piece([cut_rows(self.words_of(i)[y : y + h], x, w) for i, (x, y, w, h) in parts])
        return PackedCrops(sizes, self.areas, words)

    def write(self, i: int, strips: Iterable[tuple[int, NDArray[np.bool_]]]) -> None:
        """Write crop `i` of `blank` crops and count its pixels.

        Args:
            strips: first row and (rows, width) bool of each part of the crop.
        """
        words = self.words_of(i)
        for row, strip in strips:
            pack_rows(strip, words[row : row + len(strip)])
            self.areas[i] += np.count_nonzero(strip)

    def contain(self, corners_xy: NDArray[np.int64], points_xy: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, m) bool: does mask i hold point j? Reads single bits, of all masks at once.

        Args:
            corners_xy: (n, 2) int64, left and top edge of each crop in the image, pixels.
            points_xy: (m, 2) int64, pixels of the image.
        """
        held = np.zeros((len(self), len(points_xy)), np.bool_)
        x, y = np.ascontiguousarray(points_xy.T, np.int64)
        step = max(1, _PAIRS // max(len(points_xy), 1))
        for first in range(0, len(self), step):
            part = slice(first, first + step)
            # As unsigned numbers, what is left of or above a crop is larger than any width.
            left, top = x - corners_xy[part, :1], y - corners_xy[part, 1:]
            width, height = self.sizes_wh[part, :1].view(np.uint64), self.sizes_wh[part, 1:].view(np.uint64)
            row, point = np.nonzero((left.view(np.uint64) < width) & (top.view(np.uint64) < height))
            column = left[row, point]
            places = self.starts[part][row] + top[row, point] * words_per_row(self.sizes_wh[part, 0])[row]
            words = self.words[places + column // WORD_BITS]
            held[first + row, point] = words >> (column % WORD_BITS).astype(np.uint32) & 1
        return held

    def as_words(self, corners_xy: NDArray[np.int64]) -> CropWords:
        """The crops as compiled code reads them; `corners_xy` is (n, 2) int64, where they begin in the image."""
        return CropWords(self.words, self.starts, np.concatenate([corners_xy, corners_xy + self.sizes_wh], 1))

    def overlap(self, corners_xy: NDArray[np.int64], boxes_xyxy: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, m) int64: pixels of mask i inside box j.

        Args:
            corners_xy: (n, 2) int64, left and top edge of each crop in the image, pixels.
            boxes_xyxy: (m, 4) int64, pixels of the image, right and bottom exclusive.
        """
        compiled = library()
        if compiled is not None:
            return count_inside(compiled, self.as_words(corners_xy), boxes_xyxy)
        pixels = np.zeros((len(self), len(boxes_xyxy)), np.int64)
        for row, crop, (x, y) in zip(pixels, self, corners_xy.tolist(), strict=True):
            for j, (left, top, right, bottom) in enumerate((boxes_xyxy - (x, y, x, y)).clip(0).tolist()):
                row[j] = np.count_nonzero(crop[top:bottom, left:right])
        return pixels


def _word_counts(sizes_wh: NDArray[np.int64]) -> NDArray[np.int64]:
    return words_per_row(sizes_wh[:, 0]) * sizes_wh[:, 1]


def _in_one_piece(parts: Sequence[NDArray[np.uint32]]) -> NDArray[np.uint32]:
    """The words of crops that nothing else holds; a single crop is not copied."""
    if len(parts) == 1:
        return parts[0].ravel()
    return np.concatenate([part.ravel() for part in parts]) if parts else np.zeros(0, np.uint32)
