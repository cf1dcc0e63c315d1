"""Point prompts: segments that contain foreground points and no background points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..documents import quoted
from ..errors import PromptError
from ..segments import Segments
from .base import PromptKind
from .coordinates import check_points_inside, pixels_at, rows_of_numbers
from .fields import known_keys
from .marks import PointMarks

POINT_MODES = ("merge", "each", "all")


@dataclass(frozen=True, init=False, eq=False)
class Points(PromptKind):
    """Foreground points select the segments that contain them; background points exclude the segments under them.

    Modes:
        merge: one object, the union of the segments that contain a foreground point and no background point. Small
            gaps and specks are removed (`clean`). This is the behaviour of the original FastSAM.
        each: for each foreground point, the segment of the highest score that contains it and no background point.
            Of equal scores, the smaller segment.
        all: the same segments as "merge", but not joined. This is the behaviour of ultralytics.

    In "merge" and "all", background points alone select every segment that contains none of them.

    Attributes:
        xy: (m, 2) float64, pixels of the image; a point belongs to the pixel that it is in,
            and to the nearest one if it is less than a pixel outside.
        labels: (m,) bool, True for foreground.
        mode: "merge", "each" or "all".
        clean: whether to close gaps of up to 2 px in the merged object, and remove specks of up to 7 px.

    Example:
        >>> from fastsam_deploy.runtime import Masks
        >>> masks = Masks.from_dense([[[1, 1, 1, 0]], [[0, 0, 1, 1]]])
        >>> ones, classes = np.ones(2, np.float32), np.zeros(2, np.int64)
        >>> everything = Segments.unprompted(masks.boxes_xyxy(), ones, classes, masks)
        >>> everything.select(Points([[0, 0], [3, 0]], [1, 0], mode="all")).boxes_xyxy.tolist()
        [[0.0, 0.0, 3.0, 1.0]]
    """

    key = "points"
    example = '{"points": [[x, y], …], "labels": [1, …]}'
    asks_masks_alone = True

    xy: NDArray[np.float64]
    labels: NDArray[np.bool_]
    mode: str = "merge"
    clean: bool = True

    def __init__(self, xy: ArrayLike, labels: ArrayLike | None = None, mode: str = "merge", clean: bool = True) -> None:
        """
        Args:
            xy: one point or (m, 2) points, x and y in pixels of the image.
            labels: one for each point, 1 or True for foreground, 0 or False for background; None: all foreground.
            mode: see the class.
            clean: see the class.

        Raises:
            PromptError: shapes, labels or mode are not as described.
        """
        points = rows_of_numbers(xy, 2, "points", "[[x, y], …]")
        try:
            flags = np.ones(len(points)) if labels is None else np.atleast_1d(np.asarray(labels))
        except ValueError as error:
            raise PromptError(f"point labels are {quoted(labels)}; expected one number for each point") from error
        if flags.shape != (len(points),):
            raise PromptError(f"{len(points)} points with labels {flags.shape}; expected one label for each point")
        if not np.isin(flags, (0, 1)).all():
            raise PromptError(f"point labels are {quoted(flags.tolist())}; expected 1 (foreground) or 0 (background)")
        if mode not in POINT_MODES:
            raise PromptError(f"points mode is {quoted(mode)}; expected one of {', '.join(POINT_MODES)}")
        for name, value in (("xy", points), ("labels", flags.astype(np.bool_)), ("mode", mode), ("clean", bool(clean))):
            object.__setattr__(self, name, value)

    @property
    def prompt_count(self) -> int:
        return len(self.xy) if self.mode == "each" else 1

    def select_from(self, segments: Segments) -> Segments:
        """See the class. Raises PromptError for a point that is a pixel or more outside the image."""
        self.check_inside(segments.image_hw)
        inside = segments.masks.contain(pixels_at(self.xy, segments.image_hw))
        foreground, allowed = inside, np.ones(len(inside), np.bool_)
        if not self.labels.all():  # thousands of points rarely include background: avoid the copy
            foreground, allowed = inside[:, self.labels], np.logical_not(inside[:, ~self.labels].any(axis=1))
        if self.mode == "each":
            return self._each(segments, foreground if allowed.all() else foreground & allowed[:, None])
        hit = foreground.any(1) if self.labels.any() else np.ones(len(segments), np.bool_)
        rows = np.flatnonzero(hit & allowed)
        fits = foreground.mean(1) if self.labels.any() else np.ones(len(segments))
        selected = segments[rows].answering(np.zeros(len(rows)), fits[rows])
        if self.mode == "all" or not len(rows):
            return selected
        joint_fit = foreground[rows].any(0).mean() if self.labels.any() else 1.0
        return _merged(selected, float(joint_fit), self.clean)

    def _each(self, segments: Segments, candidates: NDArray[np.bool_]) -> Segments:
        """Best segment of each foreground point. (n, m) candidates: segment n may answer foreground point m."""
        # Best first: higher score, then smaller area.
        order = np.lexsort((segments.areas, -segments.scores))
        ranked = candidates[order]
        answered = np.flatnonzero(ranked.any(0))
        rows = order[ranked[:, answered].argmax(0)] if len(answered) else np.zeros(0, np.int64)
        return segments[rows].answering(np.flatnonzero(self.labels)[answered], segments.scores[rows])

    def check_inside(self, image_hw: tuple[int, int]) -> None:
        """Raise PromptError for a point that is a pixel or more outside the image."""
        check_points_inside(self.xy, image_hw)

    def marks(self) -> Sequence[PointMarks]:
        return (PointMarks(self.xy, self.labels),)

    def to_json(self) -> dict[str, Any]:
        labels = self.labels.astype(int).tolist()
        return {self.key: self.xy.tolist(), "labels": labels, "mode": self.mode, "clean": self.clean}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Points:
        settings = known_keys(document, (cls.key, "labels", "mode", "clean"), cls.key)
        if not isinstance(settings.get("clean", True), bool):
            raise PromptError(f"points: clean is {settings['clean']!r:.80}, expected true or false")
        return cls(settings.pop(cls.key), **settings)


def _merged(segments: Segments, fit: float, clean: bool) -> Segments:
    """One row: union of the masks, extent of the union, the highest score and its class."""
    union = segments.masks.merged(clean)
    best = segments[int(segments.scores.argmax())]
    return replace(
        best,
        boxes_xyxy=union.boxes_xyxy(),
        masks=union,
        prompts=np.zeros(1, np.int64),
        fits=np.array([fit], np.float32),
    )
