"""Points: what is under some of them, without what is under others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PromptError
from ..segments import Segments
from .base import PromptKind
from .coordinates import check_points_inside, rows_of_numbers
from .fields import known_keys
from .marks import PointMarks

POINT_MODES = ("merge", "each", "all")


@dataclass(frozen=True, init=False, eq=False)
class Points(PromptKind):
    """Foreground points ask for what is under them, background points exclude what is under those.

    Modes:
        merge: one object, the union of the segments that hold a foreground point and no background point, with
            small gaps and specks removed (`clean`). FastSAM's own meaning.
        each: for each foreground point the segment of the highest score that holds it and no background point
            (of equal scores, the smaller).
        all: the same segments as "merge", apart; as ultralytics answers.

    In "merge" and "all", background points alone ask for every segment that holds none of them.

    >>> cup = everything.select(Points([[320, 180], [40, 40]], [1, 0]))          # doctest: +SKIP

    Attributes:
        xy: (m, 2) float64, pixels of the image; a point belongs to the pixel that it lies in.
        labels: (m,) bool, True for foreground.
        mode: "merge", "each" or "all".
        clean: close gaps of up to 2 px and open specks of up to 7 px in the merged object.
    """

    key = "points"
    example = '{"points": [[x, y], …], "labels": [1, …]}'

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
        points = rows_of_numbers(xy, 2, "points", "[[x, y], …]")
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
        self.check_inside(segments.image_hw)
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
        answered = np.flatnonzero(ranked.any(0))
        rows = order[ranked[:, answered].argmax(0)] if len(answered) else np.zeros(0, np.int64)
        return segments[rows].answering(np.flatnonzero(self.labels)[answered], segments.scores[rows])

    def check_inside(self, image_hw: tuple[int, int]) -> None:
        """PromptError for a point outside the image."""
        check_points_inside(self.xy, image_hw)

    def marks(self) -> Sequence[PointMarks]:
        return (PointMarks(self.xy, self.labels),)

    def to_json(self) -> dict[str, Any]:
        labels = self.labels.astype(int).tolist()
        return {self.key: self.xy.tolist(), "labels": labels, "mode": self.mode, "clean": self.clean}

    @classmethod
    def from_json(cls, asked: Mapping[str, Any]) -> Points:
        settings = known_keys(asked, (cls.key, "labels", "mode", "clean"), cls.key)
        if not isinstance(settings.get("clean", True), bool):
            raise PromptError(f"points: clean is {settings['clean']!r:.80}, expected true or false")
        return cls(settings.pop(cls.key), **settings)


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
    # A margin as wide as the kernels reach: the crop then gives what the whole image would.
    union = chosen.masks.union(margin_px=8).map(clean_mask) if clean else chosen.masks.union()
    best = chosen[int(chosen.scores.argmax())]
    return replace(
        best,
        boxes_xyxy=union.boxes_xyxy(),
        masks=union,
        prompts=np.zeros(1, np.int64),
        fits=np.array([fit], np.float32),
    )
