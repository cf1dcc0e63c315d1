"""Box prompts: the segment that fits each box best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PromptError
from ..segments import Segments
from .base import PromptKind
from .coordinates import are_inside, rows_of_numbers
from .fields import known_keys
from .marks import BoxMarks


@dataclass(frozen=True, init=False, eq=False)
class Boxes(PromptKind):
    """For each box, the segment whose mask has the highest IoU with the box, in the order of the boxes.

    One segment can answer several boxes. A box that no mask overlaps has no answer.

    Attributes:
        xyxy: (m, 4) float64, left, top, right, bottom in pixels of the image. For the IoU the coordinates are truncated
            to whole pixels, as in ultralytics; so a box that ends less than a pixel outside the image is clipped to it.

    Example:
        >>> from fastsam_deploy.runtime import Masks
        >>> masks = Masks.from_dense([[[1, 1, 0, 0]], [[0, 0, 1, 1]]])
        >>> ones, classes = np.ones(2, np.float32), np.zeros(2, np.int64)
        >>> everything = Segments.unprompted(masks.boxes_xyxy(), ones, classes, masks)
        >>> answer = everything.select(Boxes([[2, 0, 4, 1], [0, 0, 1, 1]]))
        >>> answer.boxes_xyxy.tolist(), answer.fits.tolist()
        ([[2.0, 0.0, 4.0, 1.0], [0.0, 0.0, 2.0, 1.0]], [1.0, 0.5])
    """

    key = "boxes"
    example = '{"boxes": [[x1, y1, x2, y2], …]}'
    asks_masks_alone = True

    xyxy: NDArray[np.float64]

    def __init__(self, xyxy: ArrayLike) -> None:
        """
        Args:
            xyxy: one box or (m, 4) boxes.

        Raises:
            PromptError: the shape is not one of these, or a box has no pixel.
        """
        boxes = rows_of_numbers(xyxy, 4, "boxes", "[[x1, y1, x2, y2], …]")
        whole = boxes.clip(-(2.0**53), 2.0**53).astype(np.int64)  # the cast of larger values is undefined
        thin = np.flatnonzero((whole[:, 2:] <= whole[:, :2]).any(1))
        if len(thin):
            raise PromptError(
                f"box {thin[0]} is {boxes[thin[0]].tolist()}, expected x1, y1, x2, y2 with x2 > x1 and y2 > y1 "
                "by at least a pixel; for x, y, w, h add the width and height first"
            )
        object.__setattr__(self, "xyxy", boxes)

    @property
    def prompt_count(self) -> int:
        return len(self.xyxy)

    def select_from(self, segments: Segments) -> Segments:
        """See the class. Raises PromptError for a box that extends a pixel or more beyond the image."""
        self.check_inside(segments.image_hw)
        if not len(segments):
            return segments
        boxes = self.xyxy.astype(np.int64)  # inside the image now, as what lies outside is less than a pixel
        overlap = segments.masks.box_overlap(boxes)
        box_areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        iou = overlap / (box_areas + segments.areas[:, None] - overlap)
        rows = iou.argmax(0)
        best = iou[rows, np.arange(len(boxes))]
        answered = np.flatnonzero(best > 0)
        return segments[rows[answered]].answering(answered, best[answered])

    def check_inside(self, image_hw: tuple[int, int]) -> None:
        """Raise PromptError for a box that extends a pixel or more beyond the image."""
        height, width = image_hw
        inside = are_inside(self.xyxy.reshape(-1, 2), image_hw)
        outside = np.flatnonzero(~inside.reshape(-1, 2).all(1))
        if len(outside):
            raise PromptError(
                f"box {outside[0]} is {self.xyxy[outside[0]].tolist()}, the image reaches from (0, 0) to "
                f"({width}, {height}); give boxes in pixels of the original image and clip them to it"
            )

    def marks(self) -> Sequence[BoxMarks]:
        return (BoxMarks(self.xyxy),)

    def to_json(self) -> dict[str, Any]:
        return {self.key: self.xyxy.tolist()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Boxes:
        return cls(known_keys(document, (cls.key,), cls.key)[cls.key])
