"""Network outputs → segments."""

from __future__ import annotations

import numpy as np

from fastsam_deploy.runtime.segments import Segments
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.letterbox import fit
from fastsam_deploy.runtime.stages.postprocess import postprocess


def _segments(timing_ms: dict[str, float] | None = None) -> Segments:
    detections = np.zeros((37, 4), np.float32)
    detections[:6, 1] = [32, 32, 20, 10, 0.9, 1]
    prototypes = np.ones((32, 16, 16), np.float32)
    return postprocess(detections, prototypes, fit((64, 64), (64, 64)), ModelSpec(), Thresholds(), timing_ms)


def test_stages_are_timed_without_being_asked() -> None:
    segments = _segments()
    assert len(segments) == 1
    assert set(segments.timing_ms) == {"decode", "masks"} and min(segments.timing_ms.values()) > 0


def test_times_go_into_the_callers_own_dictionary() -> None:
    for timing in ({}, {"load": 1.0}):
        before = set(timing)
        assert _segments(timing).timing_ms is timing
        assert set(timing) == before | {"decode", "masks"}
