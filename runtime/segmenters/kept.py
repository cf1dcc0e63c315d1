"""Segments together with the image that they are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ..clip.features import MaskFeatures
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..stages.image import ImageSource, load_image
from .interface import Segmenter


def segment_and_keep(
    segmenter: Segmenter,
    source: ImageSource,
    prompt: Prompt | Sequence[Prompt] | None,
    thresholds: Sequence[Thresholds],
    color: str,
) -> tuple[Segments, NDArray[np.uint8]]:
    """Segment an image and return its pixels too. An image that is sent undecoded is read here as well.

    Args:
        segmenter: open.
        source, prompt, color: see `FastSAM.segment`.
        thresholds: one value.

    Returns:
        The segments, and the image: (h, w, 3) uint8 RGB.

    Raises:
        ImageError, PromptError: as in `FastSAM.segment`.

    Example:
        >>> segments, image = segment_and_keep(segmenter, "a.jpg", None, [Thresholds()], "RGB")  # doctest: +SKIP
    """
    if segmenter.sends_undecoded(source):
        (segments,) = segmenter.segment_batch([source], prompt, thresholds, color)
        features = segments.features  # a CLIP has read the image
        return segments, features.image if isinstance(features, MaskFeatures) else load_image(source, color=color)
    start = perf_counter()
    image = load_image(source, color=color)
    load_ms = (perf_counter() - start) * 1000
    (segments,) = segmenter.segment_batch([image], prompt, thresholds, "RGB")
    return replace(segments, timing_ms={**segments.timing_ms, "load": load_ms}), image
