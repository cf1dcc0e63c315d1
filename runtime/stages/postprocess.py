"""Network outputs → segments: decode, NMS, masks, border."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..segments import Segments
from ..settings import Thresholds
from ..spec import ModelSpec
from ..system.fork import unforked
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
        detections: one image of the detections output, in the layout `spec.layout`; see `decode`.
        prototypes: (mask_dim, H / 4, W / 4), one image of the prototypes output.
        place: where the image lies in the network's input.
        timing_ms: milliseconds of the stages before; "decode" and "masks" are added, and the segments keep it.

    Raises:
        ModelError: the outputs hold a number that is not finite.

    Example:
        >>> from fastsam_deploy.runtime.stages.letterbox import fit
        >>> spec = ModelSpec(layout="nms", mask_dim=1)
        >>> detections = np.array([[8, 8, 24, 24, 0.9, 0, 1.0]], np.float32)  # box, score, class, coefficient
        >>> prototypes = np.ones((1, 8, 8), np.float32)
        >>> segments = postprocess(detections, prototypes, fit((32, 32), (32, 32)), spec, Thresholds())
        >>> segments.areas.tolist()
        [256]
    """
    timing = {} if timing_ms is None else timing_ms
    start = perf_counter()
    decoded = decode(detections, spec, thresholds, place.input_hw)
    decoded_at = perf_counter()
    boxes = place.boxes_to_image(decoded.boxes_xyxy)
    with unforked:
        masks = assemble(decoded.coefficients, prototypes, boxes, place)
    # A detection without a pixel is no segment: dropped, as in ultralytics.
    kept = np.flatnonzero(masks.areas)
    boxes = snap_to_border(boxes[kept], place.image_hw)
    segments = Segments.unprompted(
        boxes, decoded.scores[kept], decoded.classes[kept], masks[kept], spec.class_names, timing
    )
    timing["decode"] = (decoded_at - start) * 1000
    timing["masks"] = (perf_counter() - decoded_at) * 1000
    return segments
