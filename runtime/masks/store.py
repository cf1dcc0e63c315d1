"""Binary masks of one image, stored cropped: a bitmap and its corner for each.

A full-size (n, h, w) array exists only where somebody asks for it (`dense`); areas, COCO RLE, polygons,
point look-ups and box overlaps work on the crops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FastSamError

Rle = Mapping[str, Any]
"""COCO run-length encoding: {"size": [h, w], "counts": str}, columns first."""

Rows = slice | Sequence[int] | Sequence[bool] | NDArray[np.bool_] | NDArray[np.integer[Any]]
"""Which rows: a slice, one bool for each, or row numbers in the order wanted."""


@dataclass(frozen=True)
class Masks:
    """n binary masks over an image of (h, w) pixels.

    Attributes:
        image_hw: (h, w) of the image, pixels.
        crops: n bool arrays (ch, cw), of which some may be made anew each time they are looked at (`PackedMasks`); what
            lies outside a crop is background.
        corners_xy: (n, 2) int64, left and top edge of each crop in the image, pixels.
    """

    image_hw: tuple[int, int]
    crops: Sequence[NDArray[np.bool_]]
    corners_xy: NDArray[np.int64]

    def __post_init__(self) -> None:
        height, width = self.image_hw
        if self.corners_xy.shape != (len(self.crops), 2):
            raise ValueError(f"corners_xy {self.corners_xy.shape}, expected ({len(self.crops)}, 2)")
        for i, (crop, (x, y)) in enumerate(zip(self.crops, self.corners_xy.tolist(), strict=True)):
            if crop.ndim != 2 or crop.dtype != np.bool_:
                raise ValueError(f"crop {i} is {crop.dtype} {crop.shape}, expected bool (ch, cw)")
            if x < 0 or y < 0 or x + crop.shape[1] > width or y + crop.shape[0] > height:
                raise ValueError(f"crop {i} at ({x}, {y}), size {crop.shape}, leaves the image {self.image_hw}")

    @classmethod
    def empty(cls, image_hw: tuple[int, int]) -> Masks:
        """No masks over an image of (h, w) pixels."""
        return cls(image_hw, (), np.zeros((0, 2), np.int64))

    @classmethod
    def from_dense(cls, dense: ArrayLike) -> Masks:
        """From an (n, h, w) array, anything not 0 is mask; each is cropped to its own extent."""
        stack = np.asarray(dense) != 0
        if stack.ndim != 3:
            raise ValueError(f"dense masks are {stack.shape}, expected (n, h, w)")
        crops, corners = [], []
        for mask in stack:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            y, x = (int(rows[0]), int(columns[0])) if len(rows) else (0, 0)
            bottom, right = (int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else (0, 0)
            crops.append(mask[y:bottom, x:right].copy())
            corners.append((x, y))
        return cls((stack.shape[1], stack.shape[2]), tuple(crops), np.array(corners, np.int64).reshape(-1, 2))

    @classmethod
    def from_rle(cls, rles: Sequence[Rle], image_hw: tuple[int, int]) -> Masks:
        """From COCO RLE, compressed or with plain counts, each of size `image_hw`.

        Raises:
            FastSamError: a size differs from the image's, or the text is not RLE.
        """
        found = [_decode_rle(rle, image_hw) for rle in rles]
        corners = np.array([corner for _, corner in found], np.int64).reshape(-1, 2)
        return cls(image_hw, tuple(crop for crop, _ in found), corners)

    def __len__(self) -> int:
        return len(self.crops)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        """Full-size (h, w) bool masks, one at a time."""
        return (self.full(i) for i in range(len(self)))

    def __getitem__(self, rows: Rows) -> Masks:
        """A sub-set. Crops are shared, or copied where they are the smaller part: all masks of an image can lie in
        one piece of memory, which one answer of many should not keep.
        """
        chosen = row_numbers(rows, len(self))
        crops = tuple(self.crops[i] for i in chosen)
        if 2 * sum(crop.size for crop in crops) < sum(crop.size for crop in self.crops):
            crops = tuple(crop.copy() for crop in crops)
        part = Masks(self.image_hw, crops, self.corners_xy[chosen])
        if "areas" in self.__dict__:  # counted once is enough
            part.__dict__["areas"] = self.areas[chosen]
        if "digests" in self.__dict__:
            part.__dict__["digests"] = tuple(self.digests[i] for i in chosen)
        return part

    @cached_property
    def sizes_wh(self) -> NDArray[np.int64]:
        """(n, 2) int64, width and height of each crop."""
        return np.array([crop.shape[::-1] for crop in self.crops], np.int64).reshape(-1, 2)

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """(n,) int64, pixels of each mask."""
        return np.array([np.count_nonzero(crop) for crop in self.crops], np.int64)

    @cached_property
    def digests(self) -> tuple[bytes, ...]:
        """n names of 16 bytes, equal for equal masks of one image, however wide their crops are, and for no others."""
        own = self.trimmed()
        names = []
        for crop, corner in zip(own.crops, own.corners_xy, strict=True):
            place = np.array([*corner, *crop.shape], np.int64).tobytes()
            names.append(hashlib.blake2b(place + np.packbits(crop).tobytes(), digest_size=16).digest())
        return tuple(names)

    def trimmed(self) -> Masks:
        """The same masks, each crop cut to the mask's own extent, in shared memory; an empty mask has an empty crop."""
        extents = [cv2.boundingRect(c.view(np.uint8)) if c.size else (0, 0, 0, 0) for c in self.crops]
        crops = tuple(c[y : y + h, x : x + w] for c, (x, y, w, h) in zip(self.crops, extents, strict=True))
        corners = self.corners_xy + np.array([extent[:2] for extent in extents], np.int64).reshape(-1, 2)
        part = Masks(self.image_hw, crops, corners)
        if "areas" in self.__dict__:
            part.__dict__["areas"] = self.areas
        return part

    def full(self, i: int) -> NDArray[np.bool_]:
        """Mask `i` at the size of the image, (h, w) bool."""
        mask = np.zeros(self.image_hw, np.bool_)
        x, y = self.corners_xy[i]
        crop = self.crops[i]
        mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return mask

    def dense(self) -> NDArray[np.bool_]:
        """All masks at the size of the image, (n, h, w) bool: n x h x w bytes."""
        stack = np.zeros((len(self), *self.image_hw), np.bool_)
        for mask, crop, (x, y) in zip(stack, self.crops, self.corners_xy.tolist(), strict=True):
            mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return stack

    def rle(self) -> list[dict[str, Any]]:
        """COCO RLE of each mask, {"size": [h, w], "counts": str}, made from the crops."""
        return [_encode_rle(c, (x, y), self.image_hw) for c, (x, y) in zip(self.crops, self.corners_xy, strict=True)]

    def polygons(self, tolerance_px: float = 0.0) -> list[list[NDArray[np.int64]]]:
        """Outer and inner borders of each mask: lists of (k, 2) int64 points (x, y), pixels of the image.

        Args:
            tolerance_px: simplify with Douglas-Peucker to this distance; 0 keeps every corner.
        """
        found: list[list[NDArray[np.int64]]] = []
        for crop, corner in zip(self.crops, self.corners_xy, strict=True):
            if not crop.size:
                found.append([])
                continue
            borders, _ = cv2.findContours(crop.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
            if tolerance_px > 0:
                borders = [cv2.approxPolyDP(border, tolerance_px, True) for border in borders]
            found.append([border.reshape(-1, 2).astype(np.int64) + corner for border in borders])
        return found

    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(n, 4) float32, the extent of each mask itself, pixels, right and bottom exclusive; 0 for an empty mask."""
        boxes = np.zeros((len(self), 4), np.float32)
        for box, crop, (x, y) in zip(boxes, self.crops, self.corners_xy.tolist(), strict=True):
            rows, columns = np.flatnonzero(crop.any(1)), np.flatnonzero(crop.any(0))
            if len(rows):
                box[:] = x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1
        return boxes

    def contain(self, points_xy: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, m) bool: does mask i hold point j? `points_xy` is (m, 2) int64, pixels inside the image."""
        held = np.zeros((len(self), len(points_xy)), np.bool_)
        for row, crop, corner in zip(held, self.crops, self.corners_xy, strict=True):
            x, y = (points_xy - corner).T
            inside = np.flatnonzero((x >= 0) & (y >= 0) & (x < crop.shape[1]) & (y < crop.shape[0]))
            row[inside] = crop[y[inside], x[inside]]
        return held

    def box_overlap(self, boxes_xyxy: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n, m) int64: pixels of mask i inside box j, (m, 4) int64 with right and bottom exclusive."""
        pixels = np.zeros((len(self), len(boxes_xyxy)), np.int64)
        for row, crop, (x, y) in zip(pixels, self.crops, self.corners_xy.tolist(), strict=True):
            for j, (left, top, right, bottom) in enumerate((boxes_xyxy - (x, y, x, y)).clip(0).tolist()):
                row[j] = np.count_nonzero(crop[top:bottom, left:right])
        return pixels

    def union(self) -> Masks:
        """One mask that holds every pixel of any of these; no masks give no mask."""
        if not len(self):
            return self
        ends = self.corners_xy + self.sizes_wh
        (left, top), (right, bottom) = self.corners_xy.min(0), ends.max(0)
        joined = np.zeros((bottom - top, right - left), np.bool_)
        for crop, (x, y) in zip(self.crops, self.corners_xy - (left, top), strict=True):
            joined[y : y + crop.shape[0], x : x + crop.shape[1]] |= crop
        return Masks(self.image_hw, (joined,), np.array([[left, top]], np.int64))

    def with_margin(self, margin_px: int) -> Masks:
        """The same masks, each crop wider by `margin_px` of background on every side, as far as the image goes."""
        height, width = self.image_hw
        crops, corners = [], []
        for crop, (x, y) in zip(self.crops, self.corners_xy.tolist(), strict=True):
            left, top = min(x, margin_px), min(y, margin_px)
            right = min(width - x - crop.shape[1], margin_px)
            bottom = min(height - y - crop.shape[0], margin_px)
            crops.append(np.pad(crop, ((top, bottom), (left, right))))
            corners.append((x - left, y - top))
        return Masks(self.image_hw, tuple(crops), np.array(corners, np.int64).reshape(-1, 2))

    def map(self, change: Callable[[NDArray[np.bool_]], NDArray[np.bool_]]) -> Masks:
        """The same places with `change` applied to each crop; it must keep the shape."""
        return Masks(self.image_hw, tuple(change(crop) for crop in self.crops), self.corners_xy)


def row_numbers(rows: Rows, count: int) -> NDArray[np.int64]:
    """(k,) int64, the row numbers that `rows` means among `count`.

    Raises:
        IndexError: a number or the count of bools does not fit.
    """
    if not isinstance(rows, slice):
        rows = np.asarray(rows)
        rows = rows if rows.size else rows.astype(np.int64)  # NumPy makes an empty list float
    chosen: NDArray[np.int64] = np.arange(count)[rows]
    return chosen


def concatenate(parts: Iterable[Masks], image_hw: tuple[int, int]) -> Masks:
    """All masks of `parts`, which are over the same image, in their order."""
    parts = list(parts)
    if not parts:
        return Masks.empty(image_hw)
    crops = tuple(crop for part in parts for crop in part.crops)
    return Masks(image_hw, crops, np.concatenate([part.corners_xy for part in parts]))


def _encode_rle(crop: NDArray[np.bool_], corner_xy: tuple[int, int], image_hw: tuple[int, int]) -> dict[str, Any]:
    from pycocotools import mask as coco

    height, width = image_hw
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


def _decode_rle(rle: Rle, image_hw: tuple[int, int]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """The mask, cropped to its extent, and the crop's corner (x, y).

    Read here and not by pycocotools, whose C code trusts the runs to fit the image.
    """
    try:
        size = tuple(int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = _runs_from_text(counts) if isinstance(counts, str) else [int(run) for run in counts]
    except (KeyError, TypeError, ValueError) as error:
        raise FastSamError(f"mask is {rle!r:.80}, expected COCO RLE {{'size': [h, w], 'counts': …}}") from error
    if size != image_hw:
        raise FastSamError(f"mask of size {size} for an image of (h, w) = {image_hw}; expected the same size")
    if min(runs, default=0) < 0 or sum(runs) != size[0] * size[1]:
        raise FastSamError(f"RLE runs hold {sum(runs)} pixels, the size {size} has {size[0] * size[1]}; write it again")
    ends = np.cumsum(np.array(runs, np.int64))
    inked = ends[1::2] > ends[:-1:2]
    starts, ends = ends[: len(inked) * 2 : 2][inked], ends[1::2][inked]
    if not len(starts):
        return np.zeros((0, 0), np.bool_), (0, 0)
    # Only the columns that the mask lies in are painted.
    height = size[0]
    left, right = int(starts[0]) // height, int(ends[-1] - 1) // height + 1
    changes = np.stack([starts, ends], 1).ravel() - left * height
    lengths = np.diff(changes, prepend=0, append=(right - left) * height)
    columns = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(right - left, height)
    rows = np.flatnonzero(columns.any(0))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return np.ascontiguousarray(columns[:, top:bottom].T), (left, top)


def _runs_from_text(counts: str) -> list[int]:
    """COCO's compressed counts: 5 bits a character, low first; from the fourth run on, differences to two before."""
    runs: list[int] = []
    value = shift = 0
    for code in counts.encode("ascii"):
        if not 48 <= code < 112:
            raise ValueError(f"character {chr(code)!r} is not in COCO's alphabet")
        value |= ((code - 48) & 0x1F) << shift
        shift += 5
        if (code - 48) & 0x20:
            continue
        if (code - 48) & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
