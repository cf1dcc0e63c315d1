"""How close two answers are: whether their detections, masks, boxes and scores are the same.

The reference is a trusted answer (of the checkpoint, or of its FP32 export). The candidate is the answer to check (of
FP16, INT8, another engine, a server). All computation uses the crops of the masks; no full-size array is made.

Detections of the same class are matched one to one by the IoU of their masks, greedily from the highest IoU down.
Unlike with the Hungarian method, the pairs at a higher IoU are then always among those at a lower one. For two answers
of one checkpoint, in which true pairs are far closer than all others, both methods agree. Two masks of one answer can
be nearly equal while their boxes differ. Pairs whose IoU lies in the same hundredth are therefore matched by the
distance of their boxes, then of their scores.
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
"""IoUs at which recall and precision are reported. Detections below the first are not matched."""

BOUNDARY_SHARE = 0.0075
"""Boundaries agree within this share of the image diagonal, as in the BSDS benchmark."""

_FLOATS = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageFidelity:
    """Fidelity in one image: k pairs of detections, and the detections without a partner.

    Attributes:
        reference_rows, candidate_rows: (k,) int64, rows of the pairs in the two answers, best IoU first.
        ious: (k,) float64, IoU of the two masks, at least `IOUS[0]`.
        box_px: (k,) float64, the largest distance between corresponding edges of the boxes, pixels of the image.
        scores: (k,) float64, absolute difference.
        boundary_f: (k,) float64, F-measure of the two outlines, see `overlap.boundary_f`.
        areas: (k,) int64, pixels of the reference's mask.
        missed_rows, extra_rows: int64, rows of the reference and of the candidate without a partner.
        missed_scores, extra_scores: float64, their scores. Near the confidence threshold a small difference is enough
            to lose a detection; a high score here is a real loss.

    Example:
        >>> segments = Segments.load("coffee.npz")  # doctest: +SKIP
        >>> compare(segments, segments).quality  # doctest: +SKIP
        1.0
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
        """Panoptic quality of this image; see `Fidelity.quality`."""
        return Fidelity((self,)).quality


@dataclass(frozen=True)
class Fidelity:
    """Fidelity over all images. Every detection has the same weight, whichever image it is in.

    Without any pairs: if both answers are empty, they are equal: shares and IoUs are 1, deviations 0. If only one is
    empty, shares and IoUs are 0, and deviations are NaN, which fails every limit.

    Attributes:
        images: one for each image.

    Example:
        >>> nothing_detected = Fidelity(())
        >>> nothing_detected.recall(0.75), nothing_detected.max_box_px
        (1.0, 0.0)
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
        """Number of pairs: masks with an IoU of at least `IOUS[0]`."""
        return len(self.ious)

    @cached_property
    def ious(self) -> _FLOATS:
        """(k,) float64, mask IoUs of all pairs."""
        return self._all("ious")

    def recall(self, iou: float) -> float:
        """Share of the detections of the reference that the candidate has with at least this mask IoU.

        Raises:
            ParameterError: the IoU is below `IOUS[0]`, where nothing is matched, or above 1.
        """
        return self._share(iou, self.reference_count)

    def precision(self, iou: float) -> float:
        """Share of the detections of the candidate that the reference has with at least this mask IoU.

        Raises:
            ParameterError: see `recall`.
        """
        return self._share(iou, self.candidate_count)

    @property
    def mean_iou(self) -> float:
        """Mean IoU of the masks of all pairs."""
        return self._similarity(self.ious, np.mean)

    @property
    def min_iou(self) -> float:
        """Lowest IoU of the masks of all pairs."""
        return self.min_iou_from(0)

    def min_iou_from(self, area_px: int) -> float:
        """Lowest IoU of the pairs whose reference mask has at least this many pixels; 1 if all are smaller.

        A mask of three pixels may lose one to rounding, which says nothing about the others.
        """
        large = self.ious[self._all("areas") >= area_px]
        return 1.0 if len(self.ious) and not len(large) else self._similarity(large, np.min)

    @property
    def mean_boundary_f(self) -> float:
        """Mean F-measure of the outlines of all pairs."""
        return self._similarity(self._all("boundary_f"), np.mean)

    @property
    def min_boundary_f(self) -> float:
        """Lowest F-measure of the outlines of all pairs."""
        return self._similarity(self._all("boundary_f"), np.min)

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
        """Highest score of a detection of the reference without a partner; 0 if all have one."""
        return float(self._all("missed_scores").max(initial=0.0))

    @property
    def max_extra_score(self) -> float:
        """Highest score of a detection of the candidate without a partner; 0 if all have one."""
        return float(self._all("extra_scores").max(initial=0.0))

    @property
    def quality(self) -> float:
        """Panoptic quality: sum of the IoUs of pairs / (number of pairs + half the detections without a partner)."""
        count = (self.reference_count + self.candidate_count) / 2
        return float(self.ious.sum() / count) if count else 1.0

    def _all(self, name: str) -> _FLOATS:
        return np.concatenate([np.zeros(0), *(getattr(image, name) for image in self.images)])

    def _share(self, iou: float, count: int) -> float:
        if not IOUS[0] <= iou <= 1:
            raise ParameterError(
                f"recall and precision at IoU {iou}; expected {IOUS[0]} … 1, as detections below are not matched"
            )
        return int((self.ious >= iou).sum()) / count if count else self._without_pairs(1.0, 0.0)

    def _similarity(self, values: _FLOATS, reduce: Callable[[_FLOATS], Any]) -> float:
        return float(reduce(values)) if len(values) else self._without_pairs(1.0, 0.0)

    def _deviation(self, values: _FLOATS, reduce: Callable[[_FLOATS], Any]) -> float:
        return float(reduce(values)) if len(values) else self._without_pairs(0.0, np.nan)

    def _without_pairs(self, equal: float, different: float) -> float:
        return different if self.reference_count or self.candidate_count else equal


def fidelity(reference: Sequence[Segments], candidate: Sequence[Segments]) -> Fidelity:
    """Compare the answers of a reference and a candidate to the same images.

    Args:
        reference, candidate: one answer for each image.

    Raises:
        ParameterError: the numbers of answers differ, or two answers are for images of different sizes.

    Example:
        >>> with FastSAM("fp32.onnx") as a, FastSAM("int8.onnx") as b:  # doctest: +SKIP
        ...     fidelity(a.segment_batch(images), b.segment_batch(images)).mean_iou
        0.993
    """
    if len(reference) != len(candidate):
        raise ParameterError(f"{len(candidate)} answers for {len(reference)} of the reference; expected one for each")
    return Fidelity(tuple(compare(*pair) for pair in zip(reference, candidate, strict=True)))


def compare(reference: Segments, candidate: Segments) -> ImageFidelity:
    """Compare the answers of a reference and a candidate to one image.

    Raises:
        ParameterError: they are for images of different sizes.

    Example:
        >>> with FastSAM("fp32.onnx") as a, FastSAM("int8.onnx") as b:  # doctest: +SKIP
        ...     len(compare(a.segment("photo.jpg"), b.segment("photo.jpg")).missed_rows)
        0
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
    """Rows and columns of the pairs, best IoU first; see the docstring of the module."""
    i, j = np.nonzero(ious)
    hundredth = np.minimum(np.floor(ious[i, j] * 100), 99)  # 1 is no better than 0.995
    order = np.lexsort((scores[i, j], boxes[i, j], -hundredth))
    free_rows, free_columns = np.ones(len(ious), np.bool_), np.ones(ious.shape[1], np.bool_)
    chosen = []
    for pair in order.tolist():
        if free_rows[i[pair]] and free_columns[j[pair]]:
            free_rows[i[pair]] = free_columns[j[pair]] = False
            chosen.append(pair)
    kept = np.array(chosen, np.int64)
    kept = kept[np.argsort(-ious[i[kept], j[kept]], kind="stable")]
    return i[kept], j[kept]
