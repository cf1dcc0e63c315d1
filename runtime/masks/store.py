"""Binary masks of one image, stored cropped: the interface `Masks`, and `PackedMasks`, which keeps them in host memory.

What can be read of their crops is in `placed`; here masks are made, selected, compared and changed.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..limits import check_mask_pixels
from ..system.fork import cached_property
from . import rle
from .cleaning import MARGIN_PX, clean_mask
from .packed import PackedCrops
from .placed import PlacedCrops
from .rows import Rows, row_numbers


class Masks(PlacedCrops):
    """n binary masks of one image. They do not change; `empty` and the methods `from_…` make them.

    Two objects are equal if their images are of the same size and their masks have the same pixels, however wide the
    crops are. Masks have no hash.

    Attributes:
        image_hw: (h, w) of the image, pixels.
        corners_xy: (n, 2) int64, left and top edge of each crop in the image, pixels.
        sizes_wh: (n, 2) int64, width and height of each crop, pixels. What lies outside a crop is background.
        areas: (n,) int64, pixels of each mask.

    Example:
        >>> masks = Masks.from_dense([[[0, 1, 1], [0, 1, 0]]])
        >>> masks.areas.tolist(), masks.corners_xy.tolist(), masks.sizes_wh.tolist()
        ([3], [[1, 0]], [[2, 2]])
        >>> masks.contain(np.array([[1, 1], [2, 1]]))
        array([[ True, False]])
        >>> masks.rle()
        [{'size': [2, 3], 'counts': '231'}]
    """

    @staticmethod
    def empty(image_hw: tuple[int, int]) -> PackedMasks:
        """No masks of an image of (h, w) pixels."""
        return Masks.from_crops(image_hw, (), np.zeros((0, 2), np.int64))

    @staticmethod
    def from_crops(
        image_hw: tuple[int, int], crops: Iterable[NDArray[np.bool_]], corners_xy: NDArray[np.int64]
    ) -> PackedMasks:
        """From (ch, cw) bool crops, packed one at a time, and their (n, 2) int64 left top corners (x, y).

        Raises:
            ValueError: a crop is of another type or leaves the image, or there are more or fewer corners than crops.

        Example:
            >>> Masks.from_crops((4, 5), [np.ones((2, 2), bool)], np.array([[3, 1]])).boxes_xyxy().tolist()
            [[3.0, 1.0, 5.0, 3.0]]
        """
        return PackedMasks(image_hw, PackedCrops.of(crops), corners_xy)

    @staticmethod
    def from_dense(dense: ArrayLike) -> PackedMasks:
        """From an (n, h, w) array that is not 0 inside the masks. Each mask is cropped to its extent.

        Example:
            >>> Masks.from_dense(np.eye(3)[None]).areas
            array([3])
        """
        stack = np.asarray(dense) != 0
        if stack.ndim != 3:
            raise ValueError(f"dense masks are {stack.shape}, expected (n, h, w)")
        return Masks.from_crops((stack.shape[1], stack.shape[2]), stack, np.zeros((len(stack), 2), np.int64)).trimmed()

    @staticmethod
    def from_rle(rles: Sequence[rle.Rle], image_hw: tuple[int, int]) -> PackedMasks:
        """From COCO RLE, compressed or with plain counts, each of size `image_hw`.

        Raises:
            FastSamError: a size differs from the image's, the text is not RLE, or the masks have more than
                MAX_MASK_PIXELS in all.

        Example:
            >>> Masks.from_rle([{"size": [2, 3], "counts": "231"}], (2, 3)).dense().astype(int).tolist()
            [[[0, 1, 1], [0, 1, 0]]]
        """
        corners = np.zeros((len(rles), 2), np.int64)

        def crops() -> Iterator[NDArray[np.bool_]]:
            pixels = 0
            for text, corner in zip(rles, corners, strict=True):
                crop, corner[:] = rle.decode(text, image_hw)
                pixels += crop.size
                check_mask_pixels(pixels)
                yield crop

        return Masks.from_crops(image_hw, crops(), corners)

    @abstractmethod
    def __getitem__(self, rows: Rows) -> Masks:
        """Some of the masks: a slice, n bools or row numbers, in that order.

        Raises:
            IndexError: a number or the count of bools does not fit.
        """

    def in_host_memory(self) -> PackedMasks:
        """The same masks in host memory, good for as long as they are kept; these masks if they lie there already."""
        return PackedMasks(self.image_hw, self.crops, self.corners_xy)

    @abstractmethod
    def contain(self, points_xy: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, m) bool: does mask i hold point j? `points_xy` is (m, 2) int64, pixels inside the image."""

    @abstractmethod
    def box_overlap(self, boxes_xyxy: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, m) int64: pixels of mask i inside box j, (m, 4) int64 with right and bottom exclusive."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Masks):
            return NotImplemented
        if self.image_hw != other.image_hw or not np.array_equal(self.areas, other.areas):
            return False
        mine, theirs = self.trimmed(), other.trimmed()
        return np.array_equal(mine.corners_xy, theirs.corners_xy) and mine.crops == theirs.crops

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """n keys of 16 bytes: equal for masks of the same pixels, however wide their crops are, and for no others."""
        masks = self.trimmed()
        places = np.concatenate([masks.corners_xy, masks.sizes_wh], 1)
        return tuple(
            hashlib.blake2b(place.tobytes() + masks.crops.words_of(i).tobytes(), digest_size=16).digest()
            for i, place in enumerate(places)
        )

    def trimmed(self) -> PackedMasks:
        """The same masks, each crop cut to the mask's own extent; that of an empty mask is empty, at (0, 0)."""
        extents = self.crops.extents()
        return PackedMasks(self.image_hw, self.crops.cut(extents), self._corners_of(extents))

    def union(self, margin_px: int = 0) -> PackedMasks:
        """One mask that holds every pixel of any of these; no masks give no mask.

        Args:
            margin_px: background round the crop, as far as the image goes, for a `map` that needs the surroundings.

        Example:
            >>> Masks.from_dense([[[1, 0, 0]], [[0, 0, 1]]]).union().dense().astype(int).tolist()
            [[[1, 0, 1]]]
        """
        if not len(self):
            return Masks.empty(self.image_hw)
        left, top = np.maximum(self.corners_xy.min(0) - margin_px, 0)
        right, bottom = np.minimum((self.corners_xy + self.sizes_wh).max(0) + margin_px, self.image_hw[::-1])
        joined = np.zeros((bottom - top, right - left), np.bool_)
        for crop, (x, y) in self._placed():
            joined[y - top :, x - left :][: crop.shape[0], : crop.shape[1]] |= crop
        return Masks.from_crops(self.image_hw, [joined], np.array([[left, top]]))

    def merged(self, clean: bool) -> PackedMasks:
        """The union of one or more masks, on request without small gaps and specks (`cleaning.clean_mask`).

        Example:
            >>> Masks.from_dense([[[1, 0, 0]], [[0, 0, 1]]]).merged(clean=True).dense().astype(int).tolist()
            [[[1, 1, 1]]]
        """
        return self.union(MARGIN_PX).map(clean_mask) if clean else self.union()

    def cleaned(self) -> PackedMasks:
        """Each mask without small gaps and specks (`cleaning.clean_mask`), as with better_quality of the original.

        Example:
            >>> Masks.from_dense([[[1, 0, 1]]]).cleaned().dense().astype(int).tolist()
            [[[1, 1, 1]]]
        """
        return self.with_margin(MARGIN_PX).map(clean_mask)

    def with_margin(self, margin_px: int) -> PackedMasks:
        """The same masks, each crop wider by `margin_px` of background on every side, as far as the image goes."""
        before = np.minimum(self.corners_xy, margin_px)
        after = np.minimum(self.image_hw[::-1] - self.corners_xy - self.sizes_wh, margin_px)
        margins = np.stack([before, after], 2)[:, ::-1]  # of each mask: top and bottom, left and right
        return Masks.from_crops(self.image_hw, map(np.pad, self.crops, margins), self.corners_xy - before)

    def map(self, change: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]) -> PackedMasks:
        """The masks with `change` applied to each crop, (ch, cw) bool → (ch, cw) bool.

        Example:
            >>> Masks.from_dense([[[1, 0, 1]]]).map(np.logical_not).dense().astype(int).tolist()
            [[[0, 1, 0]]]
        """
        return Masks.from_crops(self.image_hw, map(change, self.crops), self.corners_xy)


class PackedMasks(Masks):
    """Masks in host memory, one bit a pixel of their crops.

    Example:
        >>> masks = Masks.from_dense(np.ones((1, 400, 800)))
        >>> isinstance(masks, PackedMasks), masks.nbytes  # 400 x 800 / 8, and some numbers
        (True, 40048)
    """

    def __init__(self, image_hw: tuple[int, int], crops: PackedCrops, corners_xy: NDArray[np.int64]) -> None:
        """
        Args:
            image_hw: (h, w) of the image, pixels.
            corners_xy: (n, 2) int64, left and top edge of each crop in the image, pixels.

        Raises:
            ValueError: there are more or fewer corners than crops, or a crop leaves the image.
        """
        super().__init__(image_hw, corners_xy, crops.sizes_wh, crops.areas)
        self._crops: Final = crops

    @property
    def crops(self) -> PackedCrops:
        """See `Masks.crops`."""
        return self._crops

    @property
    def nbytes(self) -> int:
        """Bytes of memory held; what is shared with other masks counts in full."""
        return self.corners_xy.nbytes + self._crops.nbytes

    def __getitem__(self, rows: Rows) -> PackedMasks:
        """See `Masks`. The bits are shared, or copied where they are the smaller part of them."""
        numbers = row_numbers(rows, len(self))
        return PackedMasks(self.image_hw, self._crops.take(numbers), self.corners_xy[numbers])

    def in_host_memory(self) -> PackedMasks:
        """These masks."""
        return self

    def contain(self, points_xy: NDArray[np.int64]) -> NDArray[np.bool_]:
        """See `Masks.contain`; looks at single bits, of all masks at once."""
        return self._crops.contain(self.corners_xy, points_xy)

    def box_overlap(self, boxes_xyxy: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `Masks.box_overlap`."""
        return self._crops.overlap(self.corners_xy, boxes_xyxy)


def concatenate(parts: Iterable[Masks], image_hw: tuple[int, int]) -> Masks:
    """All masks of `parts`, which are over the same image, in their order. A single part is returned itself.

    Example:
        >>> masks = Masks.from_dense([[[1, 0]], [[0, 1]]])
        >>> len(concatenate([masks, masks[1:]], (1, 2)))
        3
    """
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Masks.empty(image_hw)
    corners = np.concatenate([part.corners_xy for part in parts])
    return PackedMasks(image_hw, PackedCrops.joined([part.crops for part in parts]), corners)
