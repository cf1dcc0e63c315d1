"""How near one answer is to another: the same detections, the same masks, the same boxes and scores?

The reference is an answer that is believed (the checkpoint's, or that of its FP32 export), the candidate one that has
to prove itself (FP16, INT8, another engine, a server). Everything works on the crops of the masks: no full-size array
is made.

Detections are matched one to one and class by class by the IoU of their masks, greedily from the highest IoU down, not
by the Hungarian method: so the pairs at a higher IoU are always among those at a lower one, and for two answers of one
checkpoint, where partners are far nearer than anything else, both methods agree. Two masks of one answer can be all but
equal where their boxes are not: pairs whose IoU lies in the same hundredth are taken by the nearness of their boxes,
then of their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..masks.overlap import boundary_f, mask_ious
from ..segments import Segments

IOUS = (0.5, 0.75, 0.9)
"""Where recall and precision are told. Detections whose masks overlap less than the first are not matched."""

BOUNDARY_SHARE = 0.0075
"""Boundaries agree within this share of the image's diagonal, as in the BSDS benchmark."""

_FLOATS = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageFidelity:
    """One image: k pairs of detections, and those that have no partner.

    Attributes:
        reference_rows, candidate_rows: (k,) int64, rows of the two answers that belong together, best IoU first.
        ious: (k,) float64, of the two masks, at least `IOUS[0]`.
        box_px: (k,) float64, the largest distance between two edges of the boxes, pixels of the image.
        scores: (k,) float64, absolute difference.
        boundary_f: (k,) float64, F-measure of the two outlines, see `overlap.boundary_f`.
        areas: (k,) int64, pixels of the reference's mask.
        missed_rows, extra_rows: int64, rows of the reference and of the candidate without a partner.
        missed_scores, extra_scores: float64, their scores. Near the confidence threshold a small difference is enough
            to lose a detection; a high score here is a real loss.
    """

    reference_rows: NDArray[np.int64]
    candidate_rows: NDArray[np.int64]
    ious: _FLOATS
    box_px: _FLOATS
    scores: _FLOATS
    boundary_f: _FLOATS
    areas: NDArray[np.int64]
    missed_rows: NDArray[np.int64]
    extra_rows: NDArray[np.int64]
    missed_scores: _FLOATS
    extra_scores: _FLOATS

    @property
    def reference_count(self) -> int:
        """Detections of the reference."""
        return len(self.ious) + len(self.missed_rows)

    @property
    def candidate_count(self) -> int:
        """Detections of the candidate."""
        return len(self.ious) + len(self.extra_rows)

    @property
    def quality(self) -> float:
        """Panoptic quality of this image, see `Fidelity.quality`."""
        return Fidelity((self,)).quality


@dataclass(frozen=True)
class Fidelity:
    """All images together: every detection counts once, whatever image it is in.

    Where there is nothing to measure the answers are equal if both are empty: shares and IoUs are 1, deviations 0.
    If only one of them is empty, shares and IoUs are 0 and deviations NaN, which no limit lets pass.
    """

    images: tuple[ImageFidelity, ...]

    @cached_property
    def reference_count(self) -> int:
        """Detections of the reference in all images."""
        return sum(image.reference_count for image in self.images)

    @cached_property
    def candidate_count(self) -> int:
        """Detections of the candidate in all images."""
        return sum(image.candidate_count for image in self.images)

    @property
    def matched_count(self) -> int:
        """Pairs: masks that overlap by at least `IOUS[0]`."""
        return len(self.ious)

    @cached_property
    def ious(self) -> _FLOATS:
        """(k,) float64, mask IoU of all pairs."""
        return self._all("ious")

    def recall(self, iou: float) -> float:
        """Share of the reference's detections that the candidate has with at least this mask IoU.

        Raises:
            ParameterError: below `IOUS[0]`, where nothing is matched, or above 1.
        """
        return self._share(iou, self.reference_count)

    def precision(self, iou: float) -> float:
        """Share of the candidate's detections that the reference has with at least this mask IoU.

        Raises:
            ParameterError: see `recall`.
        """
        return self._share(iou, self.candidate_count)

    @property
    def mean_iou(self) -> float:
        """Of the masks of all pairs."""
        return self._likeness(self.ious, np.mean)

    @property
    def min_iou(self) -> float:
        """Of the masks of all pairs."""
        return self.min_iou_from(0)

    def min_iou_from(self, area_px: int) -> float:
        """Of the pairs whose reference has at least so many pixels, 1 where all are smaller.

        A mask of three pixels may lose one to rounding, which says nothing about the others.
        """
        large = self.ious[self._all("areas") >= area_px]
        return 1.0 if len(self.ious) and not len(large) else self._likeness(large, np.min)

    @property
    def mean_boundary_f(self) -> float:
        """Of the outlines of all pairs."""
        return self._likeness(self._all("boundary_f"), np.mean)

    @property
    def min_boundary_f(self) -> float:
        """Of the outlines of all pairs."""
        return self._likeness(self._all("boundary_f"), np.min)

    @property
    def mean_box_px(self) -> float:
        """Mean of `ImageFidelity.box_px`, pixels."""
        return self._deviation(self._all("box_px"), np.mean)

    @property
    def max_box_px(self) -> float:
        """Largest of `ImageFidelity.box_px`, pixels."""
        return self._deviation(self._all("box_px"), np.max)

    @property
    def mean_score(self) -> float:
        """Mean of `ImageFidelity.scores`."""
        return self._deviation(self._all("scores"), np.mean)

    @property
    def max_score(self) -> float:
        """Largest of `ImageFidelity.scores`."""
        return self._deviation(self._all("scores"), np.max)

    @property
    def max_missed_score(self) -> float:
        """The highest score of the reference that found no partner, 0 where all did."""
        return float(self._all("missed_scores").max(initial=0.0))

    @property
    def max_extra_score(self) -> float:
        """The highest score of the candidate that found no partner, 0 where all did."""
        return float(self._all("extra_scores").max(initial=0.0))

    @property
    def quality(self) -> float:
        """Panoptic quality, one figure for all: sum of the pairs' IoU / (pairs + half of those without a partner)."""
        count = (self.reference_count + self.candidate_count) / 2
        return float(self.ious.sum() / count) if count else 1.0

    def _all(self, name: str) -> _FLOATS:
        return np.concatenate([np.zeros(0), *(getattr(image, name) for image in self.images)])

    def _share(self, iou: float, count: int) -> float:
        if not IOUS[0] <= iou <= 1:
            raise ParameterError(f"recall and precision at IoU {iou}; expected {IOUS[0]} … 1, as pairs begin there")
        return int((self.ious >= iou).sum()) / count if count else self._without_pairs(1.0, 0.0)

    def _likeness(self, values: _FLOATS, of: Callable[[_FLOATS], Any]) -> float:
        return float(of(values)) if len(values) else self._without_pairs(1.0, 0.0)

    def _deviation(self, values: _FLOATS, of: Callable[[_FLOATS], Any]) -> float:
        return float(of(values)) if len(values) else self._without_pairs(0.0, np.nan)

    def _without_pairs(self, equal: float, different: float) -> float:
        return different if self.reference_count or self.candidate_count else equal


def fidelity(reference: Sequence[Segments], candidate: Sequence[Segments]) -> Fidelity:
    """Compare two answers to the same images, image by image.

    Raises:
        ParameterError: another number of images, or two answers that are over images of different sizes.
    """
    if len(reference) != len(candidate):
        raise ParameterError(f"{len(candidate)} answers for {len(reference)} of the reference; expected one for each")
    return Fidelity(tuple(compare(*pair) for pair in zip(reference, candidate, strict=True)))


def compare(reference: Segments, candidate: Segments) -> ImageFidelity:
    """Compare two answers to one image.

    Raises:
        ParameterError: they are over images of different sizes.
    """
    masks, other_masks = reference.masks.trimmed(), candidate.masks.trimmed()
    ious = mask_ious(masks, other_masks, IOUS[0])
    ious[reference.classes[:, None] != candidate.classes] = 0
    boxes = np.abs(reference.boxes_xyxy[:, None].astype(np.float64) - candidate.boxes_xyxy).max(2, initial=0)
    scores = np.abs(reference.scores[:, None].astype(np.float64) - candidate.scores)
    i, j = pairs = _matched(ious, boxes, scores)
    missed = np.setdiff1d(np.arange(len(reference)), i)
    extra = np.setdiff1d(np.arange(len(candidate)), j)
    tolerance = BOUNDARY_SHARE * float(np.hypot(*reference.image_hw))
    outlines = [
        boundary_f(masks.crops[a], masks.corners_xy[a], other_masks.crops[b], other_masks.corners_xy[b], tolerance)
        for a, b in zip(i.tolist(), j.tolist(), strict=True)
    ]
    return ImageFidelity(
        i,
        j,
        ious[pairs],
        boxes[pairs],
        scores[pairs],
        np.array(outlines, np.float64),
        masks.areas[i],
        missed,
        extra,
        reference.scores[missed].astype(np.float64),
        candidate.scores[extra].astype(np.float64),
    )


def _matched(ious: _FLOATS, boxes: _FLOATS, scores: _FLOATS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns that belong together, the best IoU first; see the module's text."""
    i, j = np.nonzero(ious)
    hundredth = np.minimum(np.floor(ious[i, j] * 100), 99)  # 1 is no better than 0.995
    order = np.lexsort((scores[i, j], boxes[i, j], -hundredth))
    free, open_to = np.ones(len(ious), np.bool_), np.ones(ious.shape[1], np.bool_)
    chosen = []
    for pair in order.tolist():
        if free[i[pair]] and open_to[j[pair]]:
            free[i[pair]] = open_to[j[pair]] = False
            chosen.append(pair)
    kept = np.array(chosen, np.int64)
    kept = kept[np.argsort(-ious[i[kept], j[kept]], kind="stable")]
    return i[kept], j[kept]
