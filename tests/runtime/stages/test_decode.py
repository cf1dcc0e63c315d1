"""Candidates and NMS against a brute-force twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastsam_deploy.runtime.errors import ModelError
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.decode import decode, nms


def _iou(a: np.ndarray, b: np.ndarray) -> np.float32:
    width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
    height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
    inter = np.float32(width * height)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union else np.float32(0)


def _nms_one_by_one(boxes: np.ndarray, scores: np.ndarray, iou: float, max_det: int) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if len(kept) < max_det and all(float(_iou(boxes[i], boxes[k])) <= iou for k in kept):
            kept.append(i)
    return kept


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.int64, st.tuples(st.integers(0, 40), st.just(4)), elements=st.integers(0, 12)),
    st.data(),
    st.sampled_from([0.0, 0.1, 0.5, 0.7, 0.9, 1.0]),
    st.sampled_from([1, 3, 300]),
)
def test_nms_equals_the_definition(corners, data, iou, max_det):
    boxes = np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)
    boxes = boxes.astype(np.float32)
    # Few different scores, so that ties are common.
    scores = data.draw(hnp.arrays(np.float32, len(boxes), elements=st.sampled_from([0.25, 0.5, 0.75])))
    assert nms(boxes, scores, iou, max_det).tolist() == _nms_one_by_one(boxes, scores, iou, max_det)


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [
        pytest.param(np.empty((0, 4)), [], id="nothing"),
        pytest.param([[0, 0, 9, 9]], [0], id="one"),
        pytest.param([[0, 0, 9, 9], [0, 0, 9, 9]], [0], id="one object seen twice"),
        pytest.param([[0, 0, 10, 10], [0, 0, 10, 9]], [0, 1], id="IoU exactly at the threshold stays"),
        pytest.param([[5, 5, 5, 5], [5, 5, 5, 5]], [0, 1], id="boxes without area never overlap"),
    ],
)
def test_nms_cases(boxes, kept):
    boxes = np.asarray(boxes, np.float32)
    assert nms(boxes, np.ones(len(boxes), np.float32), 0.9, 300).tolist() == kept


def _raw(rows: list[list[float]], nc: int = 1) -> np.ndarray:
    """Columns of cx, cy, w, h, scores and two coefficients, among anchors of score 0."""
    output = np.zeros((4 + nc + 2, 50), np.float32)
    output[:, 10 : 10 + len(rows)] = np.array(rows, np.float32).T
    return output


def test_decode_cuts_strictly_above_conf_and_sorts():
    spec = ModelSpec(mask_dim=2)
    conf = float(np.float32(0.4))
    found = decode(
        _raw([[10, 10, 4, 6, 0.4, 1, 2], [50, 50, 8, 8, 0.5, 3, 4], [90, 90, 2, 2, 0.9, 5, 6]]),
        spec,
        Thresholds(conf, 0.9, 300),
    )
    np.testing.assert_array_equal(found.boxes_xyxy, [[89, 89, 91, 91], [46, 46, 54, 54]])
    np.testing.assert_array_equal(found.coefficients, [[5, 6], [3, 4]])
    assert found.scores.tolist() == [np.float32(0.9), 0.5] and found.classes.tolist() == [0, 0]


def test_classes_do_not_suppress_each_other():
    spec = ModelSpec(mask_dim=2, class_names=("a", "b", "c"))
    rows = [[10, 10, 4, 4, 0.1, 0.9, 0, 1, 1], [10, 10, 4, 4, 0.8, 0.2, 0, 2, 2], [10, 10, 4, 4, 0.2, 0.7, 0, 3, 3]]
    found = decode(_raw(rows, 3), spec, Thresholds(0.25, 0.5, 300))
    assert found.classes.tolist() == [1, 0] and found.coefficients[:, 0].tolist() == [1, 2]


def test_suppressed_layout_is_cut_by_conf_and_max_det():
    spec = ModelSpec(mask_dim=2, layout="nms")
    output = np.array(
        [[0, 0, 5, 5, 0.9, 2, 1, 1], [1, 1, 5, 5, 0.6, 0, 2, 2], [0, 0, 4, 4, 0.3, 0, 3, 3], [0] * 8], np.float32
    )
    found = decode(output, spec, Thresholds(0.4, 0.9, 300))
    assert found.classes.tolist() == [2, 0] and found.scores.tolist() == [np.float32(0.9), np.float32(0.6)]
    assert len(decode(output, spec, Thresholds(0.4, 0.9, 1)).scores) == 1


def test_no_detection_is_empty_not_an_error():
    found = decode(np.zeros((37, 84), np.float32), ModelSpec(), Thresholds(0.4, 0.9, 300))
    assert found.boxes_xyxy.shape == (0, 4) and found.coefficients.shape == (0, 32)


@pytest.mark.parametrize("row", [0, 4, 5], ids=["box", "score", "coefficient"])
def test_half_precision_overflow_is_an_error_not_an_empty_answer(row):
    """FP16 networks that return NaN look like images with nothing in them (efficientvit#116, TensorRT#4748)."""
    output = _raw([[10, 10, 4, 6, 0.9, 1, 2]])
    output[row, 10] = np.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        decode(output, ModelSpec(mask_dim=2), Thresholds(0.4, 0.9, 300))


def test_at_most_30000_candidates():
    rng = np.random.default_rng(0)
    output = np.zeros((7, 31_000), np.float32)
    output[:2] = rng.integers(0, 4_000, (2, 31_000))
    output[2:4] = 1
    output[4] = np.linspace(0.5, 0.9, 31_000)
    found = decode(output, ModelSpec(mask_dim=2), Thresholds(0.4, 0.9, 300))
    assert len(found.scores) == 300 and found.scores[0] == np.float32(0.9)


@pytest.mark.parametrize("number", [-1.0, 65536.0, 1e12])
def test_a_class_number_that_cannot_be_is_the_networks_fault(number):
    rows = np.array([[0, 0, 9, 9, 0.9, 3, 1], [0, 0, 9, 9, 0.8, number, 1]], np.float32)
    spec = ModelSpec(layout="nms", mask_dim=1)
    assert decode(rows, spec, Thresholds(conf=0.85)).classes.tolist() == [3]
    with pytest.raises(ModelError, match="holds class"):
        decode(rows, spec, Thresholds(conf=0.5))
