"""Network outputs → segments: decode, NMS, masks, border."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..segments import Segments
from ..spec import ModelSpec
from .assemble import assemble, snap_to_border
from .decode import decode
from .letterbox import Letterbox


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as found.

    Attributes:
        conf: keep detections with a score above it, [0, 1).
        iou: of two boxes that overlap more than this, the better stays, (0, 1].
        max_det: keep at most this many, best first.
    """

    conf: float = 0.4
    iou: float = 0.9
    max_det: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.conf < 1:
            raise ParameterError(f"conf is {self.conf}, expected 0 ≤ conf < 1")
        if not 0 < self.iou <= 1:
            raise ParameterError(f"iou is {self.iou}, expected 0 < iou ≤ 1")
        if not 1 <= self.max_det < float("inf") or int(self.max_det) != self.max_det:
            raise ParameterError(f"max_det is {self.max_det}, expected a whole number of 1 or more")


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
        timing_ms: gets "decode" and "masks", and becomes the segments' own.

    Raises:
        ModelError: the outputs hold a number that is not finite.
    """
    timing = {} if timing_ms is None else timing_ms
    start = perf_counter()
    found = decode(detections, spec, thresholds.conf, thresholds.iou, int(thresholds.max_det))
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
