"""The comparison of a CLIP folder with its model: what is off stays off, whatever comes after."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("tokenizers", reason="needs the extra [clip-export]: tokenizers is not installed")

from fastsam_deploy.export.clip.validate import FP32, IMAGE, _compare
from fastsam_deploy.runtime.measure.findings import Comparison

FEATURES = np.eye(3, 8, dtype=np.float32)


def test_features_that_are_no_numbers_fail_though_later_ones_are_equal() -> None:
    comparison = Comparison()
    _compare(np.full_like(FEATURES, np.nan), FEATURES, IMAGE, "images 0", comparison)
    _compare(FEATURES, FEATURES, IMAGE, "images 1", comparison)
    assert comparison.failures(FP32.by_quantity()) == ["image features at images 0: 24 values are NaN or infinite"]


def test_features_of_another_shape_or_direction_fail() -> None:
    comparison = Comparison()
    _compare(FEATURES[:2], FEATURES, IMAGE, "images 0", comparison)
    _compare(-FEATURES, FEATURES, IMAGE, "images 1", comparison)
    assert comparison.failures(FP32.by_quantity()) == [
        "image features at images 0: float32 (2, 8), expected float32 (3, 8)",
        "image features (1 − cosine) 2 at images 1, expected at most 0.0001",
    ]


def test_equal_features_pass() -> None:
    comparison = Comparison()
    _compare(2 * FEATURES, 2 * FEATURES, IMAGE, "images 0", comparison)
    assert comparison.failures(FP32.by_quantity()) == []
    assert comparison.findings(FP32.by_quantity())[0].worst == 0
