"""How far off tensors and detections are, and what is not compared by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.export.proof.outputs import (
    OutputLimits,
    RowTolerance,
    check_counts,
    compare_raw,
    count_alike,
    malformed,
    share_off,
)
from fastsam_deploy.runtime.measure.findings import Comparison
from fastsam_deploy.runtime.stages.decode import Detections

LIMITS = OutputLimits(0.1, 0.5, 0.1, 0.1, 0.1)


def raw(scores: list[float]) -> NDArray[np.float32]:
    """(1, 4 + 1 + 2, anchors) with these scores."""
    detections = np.ones((1, 7, len(scores)), np.float32)
    detections[:, 4] = scores
    return detections


def worst_box(reference: NDArray[np.float32], anchor: int) -> float:
    """How far off the boxes are told to be where the box of one anchor is off by 3 pixels."""
    detections, comparison = reference.copy(), Comparison()
    detections[0, 1, anchor] += 3
    compare_raw(detections, reference, 1, LIMITS, comparison, "input 1")
    return comparison.findings(LIMITS.by_quantity())[0].worst


def test_boxes_count_from_a_score_on_and_the_best_ones_where_none_reaches_it() -> None:
    some = raw([0.6, *[0.1] * 30])
    assert (worst_box(some, 0), worst_box(some, 1)) == (3, 0)
    none = raw([0.4, *np.linspace(0.3, 0.01, 30).tolist()])
    assert [worst_box(none, anchor) for anchor in (0, 5, 19, 20, 30)] == [3, 3, 3, 0, 0]
    few = raw([0.4, 0.3])
    assert worst_box(few, 1) == 3, "fewer anchors than are looked at"


def test_a_share_is_of_the_largest_value_of_the_reference() -> None:
    assert share_off(np.zeros(3), np.array([0.0, -2.0, 1.0])) == 1
    assert share_off(np.array([1.0]), np.array([0.0])) > 1e30, "never a division by zero"
    assert share_off(np.zeros(3), np.zeros(3)) == 0


@pytest.mark.parametrize(
    ("tensor", "problem"),
    [
        (np.zeros((2, 2), np.float32), None),
        (np.zeros((2, 2), np.float16), "float16 (2, 2), expected float32 (2, 2)"),
        (np.zeros((2, 1), np.float32), "float32 (2, 1), expected float32 (2, 2)"),
        (np.full((2, 2), np.inf, np.float32), "4 values are NaN or infinite"),
    ],
)
def test_tensors_that_cannot_be_compared(tensor: NDArray[np.generic], problem: str | None) -> None:
    assert malformed(tensor, np.zeros((2, 2), np.float32)) == problem


def detections(count: int) -> Detections:
    boxes = np.arange(count * 4, dtype=np.float32).reshape(count, 4) * 10
    return Detections(
        boxes, np.full(count, 0.5, np.float32), np.zeros(count, np.int64), np.ones((count, 3), np.float32)
    )


@pytest.mark.parametrize(
    ("changed", "alike"),
    [
        ({}, 3),
        ({"boxes_xyxy": detections(3).boxes_xyxy + np.float32([[0.9], [1.1], [0]])}, 2),
        ({"scores": np.float32([0.55, 0.65, 0.5])}, 2),
        ({"classes": np.array([0, 1, 2])}, 1),
        ({"coefficients": np.float32([[1, 1, 1], [1, 1, 1.2], [1, 1, 1.05]])}, 2),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else str(value),
)
def test_detections_are_the_same_within_every_tolerance(changed: dict[str, NDArray[np.generic]], alike: int) -> None:
    assert count_alike(replace(detections(3), **changed), detections(3), RowTolerance(1, 0.1, 0.1)) == alike


def test_no_detections_are_alike() -> None:
    assert count_alike(detections(0), detections(2), RowTolerance(1, 1, 1)) == 0
    assert count_alike(detections(2), detections(0), RowTolerance(1, 1, 1)) == 0


def test_a_count_is_that_of_the_rows() -> None:
    rows = np.zeros((2, 3, 9), np.float32)
    rows[0, 0, 4] = rows[1, :, 4] = 0.5
    assert check_counts({"detections": rows}) is None, "other layouts tell no count"
    assert check_counts({"detections": rows, "num_dets": np.array([[1], [3]])}) is None
    assert check_counts({"detections": rows, "num_dets": np.array([[1], [2]])}) is not None
