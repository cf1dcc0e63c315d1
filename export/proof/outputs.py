"""The outputs of a network beside those of its reference: types, shapes, and how far off the numbers are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime.engines.interface import Engine
from ...runtime.measure.findings import Comparison
from ...runtime.spec import ModelSpec
from ...runtime.stages.decode import Detections
from ...runtime.stages.distributions import as_raw

BOXES, SCORES = "boxes (px)", "scores"
COEFFICIENTS, PROTOTYPES = "coefficients (share)", "prototypes (share)"

BEST = 20
"""Detections, or anchors, that are compared in an image where no score reaches the threshold."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class OutputLimits:
    """The largest difference allowed between the outputs of two networks.

    Attributes:
        boxes_px: centre and size, pixels of the network input. None: not looked at.
        boxes_from_score: only boxes with at least this score are compared, as nobody sees the others; in an image
            without any, those with the 20 best scores.
        scores: absolute, of every anchor.
        coefficients, prototypes: shares of the largest value of the reference.

    Example:
        >>> OutputLimits(boxes_px=0.1, boxes_from_score=0.05, scores=5e-4, coefficients=5e-4, prototypes=5e-4).scores
        0.0005
    """

    boxes_px: float | None
    boxes_from_score: float
    scores: float
    coefficients: float
    prototypes: float

    def by_quantity(self) -> dict[str, float | None]:
        """Quantity → limit, for `Comparison.findings`.

        Example:
            >>> OutputLimits(0.1, 0.05, 5e-4, 5e-4, 5e-4).by_quantity()["boxes (px)"]
            0.1
        """
        return {
            BOXES: self.boxes_px,
            SCORES: self.scores,
            COEFFICIENTS: self.coefficients,
            PROTOTYPES: self.prototypes,
        }


def run_to_raw(engine: Engine, images: Array) -> dict[str, NDArray[Any]]:
    """Run a network; detections in the layout "distributions" become those of "raw".

    Args:
        images: (b, 3, H, W) float32.

    Example:
        >>> run_to_raw(engine, images)["detections"].shape  # doctest: +SKIP
        (1, 37, 84)
    """
    return outputs_as_raw(engine.run(images), engine.spec, (images.shape[2], images.shape[3]))


def outputs_as_raw(
    outputs: Mapping[str, NDArray[Any]], spec: ModelSpec, input_hw: tuple[int, int]
) -> dict[str, NDArray[Any]]:
    """Outputs of a run, with detections in the layout "distributions" as those of "raw".

    Example:
        >>> spec = ModelSpec(layout="distributions", bins=16, strides=(8, 16, 32))
        >>> outputs_as_raw({"detections": np.zeros((1, 97, 84), np.float32)}, spec, (64, 64))["detections"].shape
        (1, 37, 84)
    """
    if spec.layout != "distributions":
        return dict(outputs)
    return {**outputs, "detections": as_raw(outputs["detections"], spec, input_hw)}


def raw_spec(spec: ModelSpec) -> ModelSpec:
    """The spec of what `outputs_as_raw` gives.

    Example:
        >>> raw_spec(ModelSpec(layout="distributions", bins=16, strides=(8, 16, 32))).box_values
        4
    """
    return replace(spec, layout="raw") if spec.layout == "distributions" else spec


def malformed(tensor: NDArray[np.generic], reference: NDArray[np.generic]) -> str | None:
    """Why a tensor cannot be compared with that of the reference, in words; None where it can.

    Example:
        >>> malformed(np.zeros((1, 2), np.float32), np.zeros((1, 3), np.float32))
        'float32 (1, 2), expected float32 (1, 3)'
        >>> malformed(np.array([np.nan, np.inf, 1], np.float32), np.zeros(3, np.float32))
        '2 values are NaN or infinite'
    """
    if tensor.dtype != reference.dtype or tensor.shape != reference.shape:
        return f"{tensor.dtype} {tensor.shape}, expected {reference.dtype} {reference.shape}"
    bad = np.count_nonzero(~np.isfinite(np.asarray(tensor, np.float32)))
    return f"{bad} {'value is' if bad == 1 else 'values are'} NaN or infinite" if bad else None


def compare_raw(
    detections: Array, reference: Array, class_count: int, limits: OutputLimits, into: Comparison, at: str
) -> None:
    """Add how far off the detections of the layout "raw" are.

    Args:
        detections, reference: (b, 4 + class_count + mask_dim, anchors) float32, finite.
        limits: says which boxes count.
        at: name of the input.

    Example:
        >>> reference = np.full((1, 37, 84), 0.5, np.float32)
        >>> comparison = Comparison()
        >>> compare_raw(reference + 0.25, reference, 1, OutputLimits(0.1, 0.05, 1, 1, 1), comparison, "input 1")
        >>> [(finding.what, finding.worst) for finding in comparison.findings({"scores": 1, "coefficients (share)": 1})]
        [('scores', 0.25), ('coefficients (share)', 0.5)]
    """
    first = 4 + class_count
    off = np.abs(detections - reference)
    best = reference[:, 4:first].max(1)  # (b, anchors)
    nth = np.sort(best, axis=1)[:, -BEST:][:, :1]
    reaches = (best >= limits.boxes_from_score).any(1, keepdims=True)
    counted = best >= np.where(reaches, np.float32(limits.boxes_from_score), nth)
    into.add(BOXES, float(off[:, :4].max(1)[counted].max(initial=0)), at)
    into.add(SCORES, float(off[:, 4:first].max()), at)
    into.add(COEFFICIENTS, share_off(detections[:, first:], reference[:, first:]), at)


def compare_prototypes(prototypes: Array, reference: Array, into: Comparison, at: str) -> None:
    """Add how far off the prototypes, (b, mask_dim, H / 4, W / 4) float32, are.

    Example:
        >>> comparison = Comparison()
        >>> compare_prototypes(np.zeros((1, 2, 8, 8), np.float32), np.ones((1, 2, 8, 8), np.float32), comparison, "x")
        >>> print(*comparison.findings({"prototypes (share)": 0.4}))
        prototypes (share) 1 at x, expected at most 0.4
    """
    into.add(PROTOTYPES, share_off(prototypes, reference), at)


def share_off(values: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]) -> float:
    """The largest difference as a share of the reference's largest value.

    Example:
        >>> share_off(np.array([1.0, 3.0]), np.array([1.0, -4.0]))
        1.75
    """
    largest = max(float(np.abs(reference).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(values - reference).max()) / largest


@dataclass(frozen=True)
class RowTolerance:
    """How near two detections must be to be the same: all differences absolute.

    Attributes:
        boxes_px: edges of the boxes, pixels of the network input.
        scores: absolute.
        coefficients: absolute.

    Example:
        >>> RowTolerance(boxes_px=0.5, scores=0.01, coefficients=0.01).boxes_px
        0.5
    """

    boxes_px: float
    scores: float
    coefficients: float


def count_alike(detections: Detections, others: Detections, tolerance: RowTolerance) -> int:
    """How many of the detections are among the others too: of the same class, and within the tolerance.

    Example:
        >>> boxes = np.array([[0, 0, 9, 9], [20, 20, 29, 29]], np.float32)
        >>> rest = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64), np.zeros((2, 32), np.float32)
        >>> moved = boxes + np.array([[0.5], [3]], np.float32)
        >>> count_alike(Detections(boxes, *rest), Detections(moved, *rest), RowTolerance(1, 0.1, 0.1))
        1
    """
    near = detections.classes[:, None] == others.classes
    near &= np.abs(detections.scores[:, None] - others.scores) <= tolerance.scores
    for edges, other_edges in zip(detections.boxes_xyxy.T, others.boxes_xyxy.T, strict=True):
        near &= np.abs(edges[:, None] - other_edges) <= tolerance.boxes_px
    i, j = np.nonzero(near)
    off = np.abs(detections.coefficients[i] - others.coefficients[j]).max(1, initial=0)
    return len(np.unique(i[off <= tolerance.coefficients]))


def check_counts(outputs: Mapping[str, NDArray[np.generic]]) -> str | None:
    """How the count of detections that a graph with NMS gives differs from its rows, in words; None where it does not.

    Example:
        >>> rows = np.zeros((1, 3, 38), np.float32)
        >>> rows[0, :2, 4] = 0.9, 0.8
        >>> check_counts({"detections": rows, "num_dets": np.array([[2]], np.int32)})
        >>> check_counts({"detections": rows, "num_dets": np.array([[3]], np.int32)})
        'counts 3 detections in image 0 and gives 2'
    """
    if "num_dets" not in outputs:
        return None
    row_counts = np.count_nonzero(np.asarray(outputs["detections"])[:, :, 4], axis=1).tolist()
    counts = np.asarray(outputs["num_dets"]).reshape(-1).tolist()
    wrong = [i for i, (count, rows) in enumerate(zip(counts, row_counts, strict=True)) if count != rows]
    return (
        f"counts {counts[wrong[0]]} detections in image {wrong[0]} and gives {row_counts[wrong[0]]}" if wrong else None
    )
