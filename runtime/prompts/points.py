"""Prompts pick among the segments of one image. The network is not run again.

A row of an answer carries the number of its prompt and a fit:

| prompt            | numbers                  | fit of a row                                              |
|-------------------|--------------------------|-----------------------------------------------------------|
| Everything        | none                     | none                                                      |
| Points, "merge"   | 0                        | part of the foreground points that the object holds       |
| Points, "each"    | index of the point       | score of the segment                                      |
| Points, "all"     | 0                        | part of the foreground points that the segment holds      |
| Boxes             | index of the box         | IoU of mask and box                                       |
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PromptError
from ..segments import Segments

POINT_MODES = ("merge", "each", "all")


@dataclass(frozen=True)
class Everything:
    """Every segment."""

    prompt_count = 0

    def select_from(self, segments: Segments) -> Segments:
        return segments


@dataclass(frozen=True, init=False, eq=False)
class Points:
    """Foreground points ask for what is under them, background points exclude what is under those.

    Modes:
        merge: one object, the union of the segments that hold a foreground point and no background point, with
            small gaps and specks removed (`clean`). FastSAM's own meaning.
        each: for each foreground point the segment of the highest score that holds it and no background point
            (of equal scores, the smaller).
        all: the same segments as "merge", apart; as ultralytics answers.

    In "merge" and "all", background points alone ask for every segment that holds none of them.

    Attributes:
        xy: (m, 2) float64, pixels of the image; a point belongs to the pixel that it lies in.
        labels: (m,) bool, True for foreground.
        mode: "merge", "each" or "all".
        clean: close gaps of up to 2 px and open specks of up to 7 px in the merged object.
    """

    xy: NDArray[np.float64]
    labels: NDArray[np.bool_]
    mode: str = "merge"
    clean: bool = True

    def __init__(self, xy: ArrayLike, labels: ArrayLike | None = None, mode: str = "merge", clean: bool = True) -> None:
        """
        Args:
            xy: one point or (m, 2) points, x and y in pixels of the image.
            labels: one for each point, 1 or True for foreground, 0 or False for background; None: all foreground.
            mode: see above.
            clean: see above.

        Raises:
            PromptError: shapes, labels or mode are not as described.
        """
        points = _floats(xy, 2, "points", "[[x, y], …]")
        try:
            flags = np.ones(len(points)) if labels is None else np.atleast_1d(np.asarray(labels))
        except ValueError as error:
            raise PromptError(f"point labels are {labels!r:.80}; expected one number for each point") from error
        if flags.shape != (len(points),):
            raise PromptError(f"{len(points)} points with labels {flags.shape}; expected one label for each point")
        if not np.isin(flags, (0, 1)).all():
            raise PromptError(f"point labels are {flags.tolist()}; expected 1 (foreground) or 0 (background)")
        if mode not in POINT_MODES:
            raise PromptError(f"points mode is {mode!r}; expected one of {', '.join(POINT_MODES)}")
        for name, value in (("xy", points), ("labels", flags.astype(np.bool_)), ("mode", mode), ("clean", bool(clean))):
            object.__setattr__(self, name, value)

    @property
    def prompt_count(self) -> int:
        return len(self.xy) if self.mode == "each" else 1

    def select_from(self, segments: Segments) -> Segments:
        """See the class. Raises PromptError for a point outside the image."""
        height, width = segments.image_hw
        outside = np.flatnonzero(~((self.xy >= 0) & (self.xy < (width, height))).all(1))
        if len(outside):
            x, y = self.xy[outside[0]].tolist()
            raise PromptError(
                f"point {outside[0]} is at ({x:g}, {y:g}), the image has x in [0, {width}) and y in [0, {height}); "
                "give points in pixels of the original image"
            )
        held = segments.masks.contain(np.floor(self.xy).astype(np.int64))
        wanted, allowed = held, np.ones(len(held), np.bool_)
        if not self.labels.all():  # thousands of points have no background, mostly: nothing to copy
            wanted, allowed = held[:, self.labels], np.logical_not(held[:, ~self.labels].any(axis=1))
        if self.mode == "each":
            return self._each(segments, wanted if allowed.all() else wanted & allowed[:, None])
        hit = wanted.any(1) if self.labels.any() else np.ones(len(segments), np.bool_)
        rows = np.flatnonzero(hit & allowed)
        fits = wanted.mean(1) if self.labels.any() else np.ones(len(segments))
        chosen = segments[rows].answering(np.zeros(len(rows)), fits[rows])
        if self.mode == "all" or not len(rows):
            return chosen
        joint_fit = wanted[rows].any(0).mean() if self.labels.any() else 1.0
        return _merged(chosen, float(joint_fit), self.clean)

    def _each(self, segments: Segments, possible: NDArray[np.bool_]) -> Segments:
        # Best first: higher score, then smaller area.
        order = np.lexsort((segments.areas, -segments.scores))
        ranked = possible[order]
        found = np.flatnonzero(ranked.any(0))
        rows = order[ranked[:, found].argmax(0)] if len(found) else np.zeros(0, np.int64)
        return segments[rows].answering(np.flatnonzero(self.labels)[found], segments.scores[rows])


@dataclass(frozen=True, init=False, eq=False)
class Boxes:
    """For each box the segment of the highest IoU between mask and box, in the order of the boxes.

    One segment can answer several boxes. A box that no mask touches has no answer.

    Attributes:
        xyxy: (m, 4) float64, left, top, right, bottom in pixels of the image. For the IoU the corners are cut to
            whole pixels, as ultralytics does.
    """

    xyxy: NDArray[np.float64]

    def __init__(self, xyxy: ArrayLike) -> None:
        """
        Args:
            xyxy: one box or (m, 4) boxes.

        Raises:
            PromptError: the shape is another, or a box has no pixel.
        """
        boxes = _floats(xyxy, 4, "boxes", "[[x1, y1, x2, y2], …]")
        whole = boxes.clip(-(2.0**53), 2.0**53).astype(np.int64)  # beyond, a cast gives any number
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
        """See the class. Raises PromptError for a box that leaves the image."""
        height, width = segments.image_hw
        inside = (self.xyxy >= 0) & (self.xyxy <= (width, height, width, height))
        outside = np.flatnonzero(~inside.all(1))
        if len(outside):
            raise PromptError(
                f"box {outside[0]} is {self.xyxy[outside[0]].tolist()}, the image reaches from (0, 0) to "
                f"({width}, {height}); give boxes in pixels of the original image and clip them to it"
            )
        if not len(segments):
            return segments
        boxes = self.xyxy.astype(np.int64)
        overlap = segments.masks.box_overlap(boxes)
        box_areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        iou = overlap / (box_areas + segments.areas[:, None] - overlap)
        rows = iou.argmax(0)
        best = iou[rows, np.arange(len(boxes))]
        found = np.flatnonzero(best > 0)
        return segments[rows[found]].answering(found, best[found])


def clean_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Close gaps (3 x 3), then open specks (8 x 8), as FastSAM's better_quality; a mask that would vanish stays.

    (h, w) bool to the same. Kernel sizes: CASIA-IVA-Lab/FastSAM `fastsam/prompt.py`.
    """
    closed = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    # Not MORPH_OPEN: with a kernel of even size it uses one anchor for both steps and moves the mask by a pixel.
    kernel = np.ones((8, 8), np.uint8)
    opened = cv2.dilate(cv2.erode(closed, kernel, anchor=(4, 4)), kernel, anchor=(3, 3))
    cleaned: NDArray[np.bool_] = opened.view(np.bool_)
    return cleaned if cleaned.any() else mask


def _merged(chosen: Segments, fit: float, clean: bool) -> Segments:
    """One row: union of the masks, extent of the union, the highest score and its class."""
    union = chosen.masks.union()
    if clean:
        # A margin as wide as the kernels reach: the crop then gives what the whole image would.
        union = union.with_margin(8).map(clean_mask)
    best = chosen[int(chosen.scores.argmax())]
    return replace(
        best,
        boxes_xyxy=union.boxes_xyxy(),
        masks=union,
        prompts=np.zeros(1, np.int64),
        fits=np.array([fit], np.float32),
    )


def _floats(values: ArrayLike, width: int, what: str, example: str) -> NDArray[np.float64]:
    """(m, width) float64 of one row or several, finite."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PromptError(f"{what}: {values!r:.80} are not numbers; expected {example}") from error
    rows = array[None] if array.ndim == 1 and array.size else array
    if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
        raise PromptError(f"{what} have shape {array.shape}; expected {example}, at least one")
    if not np.isfinite(rows).all():
        raise PromptError(f"{what} hold a value that is not finite: {rows.tolist()!r:.80}; expected {example}")
    return rows
