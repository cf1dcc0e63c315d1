"""Crops of one image at their places in it: what can be read of them, at the size of the image or without it.

A full-size (n, h, w) array exists only where somebody asks for it (`dense`). COCO RLE, polygons and boxes are made from
the crops.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from . import rle
from .packed import PackedCrops
from .polygons import Polygon, outlines
from .simplify import simplified


class PlacedCrops(ABC):
    """n crops of one image, with the number of pixels in each.

    Attributes:
        image_hw: (h, w) of the image, pixels.
        corners_xy: (n, 2) int64, left and top edge of each crop in the image, pixels.
        sizes_wh: (n, 2) int64, width and height of each crop, pixels. What lies outside a crop is background.
        areas: (n,) int64, pixels of each mask.

    Raises:
        ValueError: the arrays differ in length, or a crop leaves the image.

    Example:
        >>> from fastsam_deploy.runtime import Masks
        >>> masks = Masks.from_dense([[[0, 1, 1], [0, 1, 0]]])
        >>> isinstance(masks, PlacedCrops), masks.boxes_xyxy().tolist()
        (True, [[1.0, 0.0, 3.0, 2.0]])
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

    @property
    @abstractmethod
    def crops(self) -> PackedCrops:
        """n bool arrays (ch, cw), each unpacked when it is read: keep one that is needed twice."""

    def __len__(self) -> int:
        return len(self.areas)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        """Full-size (h, w) bool masks, one at a time."""
        return (self.full(i) for i in range(len(self)))

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
            >>> from fastsam_deploy.runtime import Masks
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

    def _corners_of(self, extents: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, 2) int64 left top corner of each extent in the image; (0, 0) of an empty one."""
        corners: NDArray[np.int64] = np.where(self.areas[:, None] > 0, self.corners_xy + extents[:, :2], 0)
        return corners

    def _placed(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int64]]]:
        """Each crop and its corner."""
        return zip(self.crops, self.corners_xy, strict=True)


def _paste(crop: NDArray[np.bool_], corner: NDArray[np.int64], image: NDArray[np.bool_]) -> None:
    x, y = corner.tolist()
    image[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
