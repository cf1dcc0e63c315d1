"""Network outputs → segments: decode, NMS, masks, border."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..segments import Segments
from ..settings import Thresholds
from ..spec import ModelSpec
from .assemble import assemble, snap_to_border
from .decode import decode
from .letterbox import Letterbox


def postprocess(
    detections: NDArray[Any],
    prototypes: NDArray[Any],
    place: Letterbox,
    spec: ModelSpec,
    thresholds: Thresholds,
    timing_ms: dict[str, float] | None = None,
) -> Segments:
    """Segments of one image.

    Args:
        detections: the image's row of that output, in `spec.layout`.
        prototypes: (mask_dim, H / 4, W / 4).
        place: where the image lay in the network's input.
        timing_ms: gets "decode" and "masks", and becomes the segments' own; None: a new one.

    Raises:
        ModelError: the outputs hold a number that is not finite.
    """
    timing = {} if timing_ms is None else timing_ms
    start = perf_counter()
    found = decode(detections, spec, thresholds)
    decoded = perf_counter()
    boxes = place.boxes_to_image(found.boxes_xyxy)
    masks = assemble(found.coefficients, prototypes, boxes, place)
    # A detection without a pixel is no segment: dropped, as in ultralytics.
    kept = np.flatnonzero(masks.areas)
    boxes = snap_to_border(boxes[kept], place.image_hw)
    segments = Segments.unprompted(
        boxes, found.scores[kept], found.classes[kept], masks[kept], spec.class_names, timing
    )
    timing["decode"] = (decoded - start) * 1000
    timing["masks"] = (perf_counter() - decoded) * 1000
    return segments
