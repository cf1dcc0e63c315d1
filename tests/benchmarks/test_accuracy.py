"""Quality by precision: counted as by comparing whole masks."""

from __future__ import annotations

import numpy as np

from benchmarks.accuracy.quality import best_ious
from fastsam_deploy.runtime import Masks


def test_the_best_iou_of_each_region():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.repeat(rng.integers(1, 6, (4, 5)), 10, 0), 10, 1)
    labels[0, 0] = 9  # too small to count
    dense = np.kron(rng.random((7, 4, 5)) < 0.3, np.ones((10, 10))).astype(bool)
    expected = [
        max((mask & (labels == number)).sum() / (mask | (labels == number)).sum() for mask in dense)
        for number in np.unique(labels)
        if (labels == number).sum() >= 0.005 * labels.size
    ]
    np.testing.assert_allclose(best_ious(Masks.from_dense(dense), labels), expected)
    assert best_ious(Masks.empty((40, 50)), labels).tolist() == [0.0] * len(expected)
