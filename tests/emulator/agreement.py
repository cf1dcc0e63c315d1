"""When the segments of a GPU are those of the CPU."""

from __future__ import annotations

import numpy as np

from fastsam_deploy.runtime import Segments
from fastsam_deploy.runtime.masks.overlap import mask_ious
from fastsam_deploy.runtime.measure.fidelity import compare

SCORE, BOX_PX = 1e-4, 0.05
"""What another order of a network's sums may change. On the emulated driver it is the same network library."""


def require_same(found: Segments, wanted: Segments) -> None:
    """The same rows; masks equal but for pixels whose logit is as good as zero. For one network library."""
    assert len(found) == len(wanted)
    assert found.image_hw == wanted.image_hw
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=1e-3)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)
    np.testing.assert_array_equal(found.classes, wanted.classes)
    np.testing.assert_array_equal(found.prompts, wanted.prompts)
    np.testing.assert_allclose(found.fits, wanted.fits, atol=1e-3)
    if len(found):
        ious = np.diag(mask_ious(found.masks, wanted.masks))
        assert ious.mean() >= 0.9999
        assert ious.min() >= 0.995
    require_counted(found)


def require_alike(found: Segments, wanted: Segments) -> None:
    """The same segments of another network library: paired by their masks, for equal scores may change places.

    A segment may be missing whose score is as good as the lowest, and one in a hundred where two boxes overlap by
    nearly what suppression allows.
    """
    assert found.image_hw == wanted.image_hw
    pairs = compare(wanted, found)
    lowest = min([*wanted.scores.tolist(), *found.scores.tolist()], default=0.0)
    single = np.concatenate([pairs.missed_scores, pairs.extra_scores])
    assert np.count_nonzero(single > lowest + 2 * SCORE) <= max(len(wanted), len(found)) // 100, single
    assert pairs.scores.max(initial=0) <= SCORE
    assert pairs.box_px.max(initial=0) <= BOX_PX
    if len(pairs.ious):
        assert pairs.ious.mean() >= 0.999
        assert pairs.ious.min() >= 0.99
    if not len(single):
        np.testing.assert_array_equal(np.sort(found.prompts), np.sort(wanted.prompts))
    require_counted(found)


def require_counted(found: Segments) -> None:
    """The areas are those of the masks."""
    np.testing.assert_array_equal(found.areas, [np.count_nonzero(crop) for crop in found.masks.crops])
