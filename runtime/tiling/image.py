"""One image, whole or in tiles, with or without its pixels: what `FastSAM.segment` and its streams do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip
from ..clip.features import with_image
from ..segmenters.interface import Segmenter
from ..segmenters.kept import segment_and_keep
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..stages.image import ImageSource, load_image
from .grid import Tiles
from .run import segment_tiles


def segment_image(
    segmenter: Segmenter,
    source: ImageSource,
    prompt: Prompt | Sequence[Prompt] | None,
    thresholds: Thresholds,
    color: str,
    *,
    keep: bool = False,
    tiles: Tiles | int | None = None,
    clip: Clip | None = None,
) -> tuple[Segments, NDArray[np.uint8] | None]:
    """Segment an image.

    Args:
        segmenter: open.
        source, prompt, thresholds, color: see `FastSAM.segment`.
        keep: also return the image.
        tiles: how the image is cut; a number is the side of a tile in pixels; None: it is not.
        clip: for text prompts on the segments of tiles.

    Returns:
        The segments; and the image, (h, w, 3) uint8 RGB, or None.

    Raises:
        See `FastSAM.segment`.

    Example:
        >>> segment_image(segmenter, "city.tif", None, Thresholds(), "RGB", tiles=1024)[0]  # doctest: +SKIP
        Segments(5120 in 4000×6000, scores 0.40–0.97)
    """
    if tiles is not None:
        cut = tiles if isinstance(tiles, Tiles) else Tiles(tiles)
        segments, image = _in_tiles(segmenter, source, prompt, thresholds, color, cut, clip)
        return segments, image if keep else None
    if keep:
        return segment_and_keep(segmenter, source, prompt, [thresholds], color)
    return segmenter.segment_batch([source], prompt, [thresholds], color)[0], None


def _in_tiles(
    segmenter: Segmenter,
    source: ImageSource,
    prompt: Prompt | Sequence[Prompt] | None,
    thresholds: Thresholds,
    color: str,
    tiles: Tiles,
    clip: Clip | None,
) -> tuple[Segments, NDArray[np.uint8]]:
    times = [perf_counter()]
    image = load_image(source, color=color)
    times.append(perf_counter())
    segments = segment_tiles(segmenter, image, thresholds, tiles)
    if clip is not None:
        segments = with_image(segments, image, clip)
    times.append(perf_counter())
    selected = segments if prompt is None else segments.select(prompt)
    times.append(perf_counter())
    load_ms, _, prompt_ms = (np.diff(times) * 1000).tolist()
    return replace(selected, timing_ms={**segments.timing_ms, "load": load_ms, "prompt": prompt_ms}), image
