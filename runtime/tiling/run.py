"""An image → its tiles → their segments → the segments of the image."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ..segmenters.interface import Segmenter
from ..segmenters.stream import in_order
from ..segments import Segments
from ..settings import Thresholds
from .grid import Tiles, tile_boxes
from .merge import Part, merged, placed

_CELL = 4
"""Pixels of the network's input that a value of a mask stands for."""


def segment_tiles(segmenter: Segmenter, image: NDArray[np.uint8], thresholds: Thresholds, tiles: Tiles) -> Segments:
    """Segment an image tile by tile. Besides the image, only the tiles in progress and packed masks are in memory.

    Args:
        segmenter: open.
        image: (h, w, 3) uint8 RGB.
        thresholds: for each tile, see also `Tiles.confirmed`; `max_det` counts in each tile.
        tiles: how the image is cut.

    Returns:
        Segments by score. `timing_ms` has the sums of all tiles, and `merge`.

    Raises:
        See `FastSAM.segment`.

    Example:
        >>> segment_tiles(segmenter, image, Thresholds(), Tiles(1024))  # doctest: +SKIP
        Segments(5120 in 4000×6000, scores 0.40–0.97)
    """
    image_hw = image.shape[0], image.shape[1]
    size_px = segmenter.imgsz if tiles.size_px is None else tiles.size_px
    if max(image_hw) <= size_px:
        return segmenter.segment_batch([image], None, [thresholds], "RGB")[0]
    boxes = tile_boxes(image_hw, size_px, tiles.overlap)
    margin_px = -(-_CELL * size_px // segmenter.imgsz)
    runner, workers = segmenter.for_stream()

    lower = replace(thresholds, conf=thresholds.conf * tiles.confirmed)

    def segment(pixels: NDArray[np.uint8], limits: Thresholds = lower) -> Segments:
        return runner.segment_batch([pixels], None, [limits], "RGB")[0]

    pictures = (np.ascontiguousarray(image[y1:y2, x1:x2]) for x1, y1, x2, y2 in boxes.tolist())
    results = in_order(segment, pictures, workers, workers + 1)
    timing = Counter[str]()
    parts = []
    for box, segments in zip(boxes, results, strict=True):
        timing.update(segments.timing_ms)
        parts.append(Part(placed(segments, box, image_hw), box, margin_px))
    whole = segment(image, thresholds) if tiles.whole else None
    timing.update({} if whole is None else whole.timing_ms)
    start = perf_counter()
    answer = merged(parts, whole, tiles.merge_iou, thresholds.conf)
    return replace(answer, timing_ms={**timing, "merge": (perf_counter() - start) * 1000})
