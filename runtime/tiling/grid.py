"""Where tiles lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError

_SMALLEST_PX = 64
_LARGEST_OVERLAP = 0.75


@dataclass(frozen=True, slots=True)
class Tiles:
    """How an image is cut into tiles.

    Attributes:
        size_px: side of a tile in pixels of the image; None: the longest side of the network's input, so that pixels
            of the image become pixels of the network. Smaller tiles find smaller things. An image that is not larger
            than a tile is not cut.
        overlap: share of a tile that its neighbour shows too, at least, [0, 0.75]. What is smaller than the overlap
            lies whole in some tile.
        merge_iou: segments of two tiles are one if their IoU, on what both tiles show, is at least this, (0, 1].
            Higher values keep more variants of the same thing.
        whole: also segment the whole image, made small, for what is larger than a tile.
        confirmed: a segment that two tiles have needs only this share of the threshold `conf`, (0, 1]. The score of a
            thing varies a little with where a tile begins; two tiles that agree make up for that. 1: the threshold
            holds for every segment.

    Raises:
        ParameterError: a value is out of range.

    Example:
        >>> Tiles(1024)
        Tiles(size_px=1024, overlap=0.65, merge_iou=0.8, whole=True, confirmed=0.75)
    """

    size_px: int | None = None
    overlap: float = 0.65
    merge_iou: float = 0.8
    whole: bool = True
    confirmed: float = 0.75

    def __post_init__(self) -> None:
        size = self.size_px
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < _SMALLEST_PX):
            raise ParameterError(
                f"tiles: size_px is {size!r}, expected a whole number of {_SMALLEST_PX} or more, or None"
            )
        if not 0 <= self.overlap <= _LARGEST_OVERLAP:
            raise ParameterError(f"tiles: overlap is {self.overlap}, expected 0 … {_LARGEST_OVERLAP}")
        for name in ("merge_iou", "confirmed"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ParameterError(f"tiles: {name} is {value}, expected 0 < {name} ≤ 1")


def tile_boxes(image_hw: tuple[int, int], size_px: int, overlap: float) -> NDArray[np.int64]:
    """Tiles of equal size that cover an image, row by row, evenly spread.

    Args:
        image_hw: (h, w) of the image, pixels.
        size_px: side of a tile; along a side of the image that is shorter, tiles are as long as that.
        overlap: share of a tile that its neighbour covers too, at least.

    Returns:
        (t, 4) int64, x1, y1, x2, y2, pixels of the image, right and bottom exclusive.

    Example:
        >>> tile_boxes((100, 250), 100, 0.25).tolist()
        [[0, 0, 100, 100], [75, 0, 175, 100], [150, 0, 250, 100]]
    """
    tops, lefts = (_starts(side, size_px, overlap) for side in image_hw)
    height, width = (min(side, size_px) for side in image_hw)
    corners = np.array([(left, top) for top in tops for left in lefts], np.int64)
    return np.concatenate([corners, corners + np.array([width, height])], 1)


def _starts(side: int, size_px: int, overlap: float) -> list[int]:
    room = side - size_px
    if room <= 0:
        return [0]
    steps = int(np.ceil(room / max(1, int(size_px * (1 - overlap)))))
    return [round(room * step / steps) for step in range(steps + 1)]
