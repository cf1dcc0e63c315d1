"""Binary masks of one image, stored cropped: the interface `Masks`, and `PackedMasks`, which keeps them in host memory.

A full-size (n, h, w) array exists only where somebody asks for it (`dense`). Areas, COCO RLE, polygons, point look-ups
and box overlaps work on the crops.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..limits import check_mask_pixels
from ..system.fork import cached_property
from . import rle
from .cleaning import MARGIN_PX, clean_mask
from .packed import PackedCrops
from .polygons import Polygon, outlines
from .rows import Rows, row_numbers
from .simplify import simplified


class Masks(ABC):
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

    def __init__(
        self,
        image_hw: tuple[int, int],
        corners_xy: NDArray[np.int64],
        sizes_wh: NDArray[np.int64],
        areas: NDArray[np.int64],
    ) -> None:
        n = len(sizes_wh)
        if corners_xy.shape != (n, 2) or areas.shape != (n,):
            raise ValueError(f"corners_xy {corners_xy.shape} and areas {areas.shape}, expected ({n}, 2) and ({n},)")
        height, width = image_hw
        outside = (corners_xy < 0) | (corners_xy + sizes_wh > (width, height))
        if np.count_nonzero(outside):  # a fifth of the time of `any`
            i = int(outside.any(1).argmax())
            (x, y), (w, h) = corners_xy[i].tolist(), sizes_wh[i].tolist()
            raise ValueError(f"crop {i} at ({x}, {y}), size (h, w) = ({h}, {w}), leaves the image {image_hw}")
        self.image_hw: Final = image_hw
        self.corners_xy: Final = corners_xy
        self.sizes_wh: Final = sizes_wh
        self.areas: Final = areas

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

    @property
    @abstractmethod
    def crops(self) -> PackedCrops:
        """n bool arrays (ch, cw), each unpacked when it is read: keep one that is needed twice."""

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

    def __len__(self) -> int:
        return len(self.areas)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        """Full-size (h, w) bool masks, one at a time."""
        return (self.full(i) for i in range(len(self)))

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

    def full(self, i: int) -> NDArray[np.bool_]:
        """Mask `i` at the size of the image, (h, w) bool."""
        mask = np.zeros(self.image_hw, np.bool_)
        _paste(self.crops[i], self.corners_xy[i], mask)
        return mask

    def dense(self) -> NDArray[np.bool_]:
        """All masks at the size of the image, (n, h, w) bool: n x h x w bytes."""
        stack = np.zeros((len(self), *self.image_hw), np.bool_)
        for mask, (crop, corner) in zip(stack, self._placed(), strict=True):
            _paste(crop, corner, mask)
        return stack

    def rle(self) -> list[dict[str, Any]]:
        """COCO RLE of each mask, {"size": [h, w], "counts": str}, made from the crops."""
        crops = self.crops
        places = zip(crops.sizes_wh[:, 0].tolist(), self.corners_xy.tolist(), strict=True)
        return [
            rle.encode_packed(crops.words_of(i), width, (x, y), self.image_hw)
            for i, (width, (x, y)) in enumerate(places)
        ]

    def polygons(self, tolerance_px: float = 0.0) -> list[list[Polygon]]:
        """The outlines of each mask: for each part of it, its outer ring and its holes.

        Coordinates are edges of pixels of the image: pixel (x, y) covers [x, x + 1] × [y, y + 1]. Without a tolerance,
        the polygons cover the pixels of the mask exactly.

        Args:
            tolerance_px: leave out corners that lie at most this far from the simplified outline. The polygons stay
                valid: where a ring would cross another, or vanish, it keeps more of its corners.

        Returns:
            n lists of `Polygon`, empty for a mask without pixels.

        Example:
            >>> ((part,),) = Masks.from_dense([[[1, 1, 1], [1, 0, 1], [1, 1, 1]]]).polygons()
            >>> part.outer.tolist(), [hole.tolist() for hole in part.holes], part.area
            ([[0, 0], [3, 0], [3, 3], [0, 3]], [[[2, 1], [1, 1], [1, 2], [2, 2]]], 8.0)
        """
        exact = (outlines(crop, corner) for crop, corner in self._placed())
        return [simplified(parts, tolerance_px) if tolerance_px > 0 else parts for parts in exact]

    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(n, 4) float32, the extent of each mask itself, pixels, right and bottom exclusive; 0 for an empty mask."""
        extents = self.crops.extents()
        corners = self._corners_of(extents)
        return np.concatenate([corners, corners + extents[:, 2:]], 1).astype(np.float32)

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

    def _corners_of(self, extents: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2) int64 left top corner of each extent in the image; (0, 0) of an empty one."""
        corners: NDArray[np.int64] = np.where(self.areas[:, None] > 0, self.corners_xy + extents[:, :2], 0)
        return corners

    def _placed(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
        """Each crop and its corner."""
        return zip(self.crops, self.corners_xy, strict=True)


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


def _paste(crop: NDArray[np.bool_], corner: NDArray[np.int64], image: NDArray[np.bool_]) -> None:
    x, y = corner.tolist()
    image[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
