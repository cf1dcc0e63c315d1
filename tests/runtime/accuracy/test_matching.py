"""The matching of boundary pixels, against SciPy's dense assignment with a price for pixels without a partner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from fastsam_deploy.runtime.accuracy.matching import match_annotators, match_boundaries, near_pixels


def assigned(boundary: np.ndarray, truth: np.ndarray, radius_px: float) -> tuple[int, float]:
    """Pairs and their total distance, by the definition: a dense assignment with a high price for being alone."""
    points, others = np.argwhere(boundary), np.argwhere(truth)
    distances = np.linalg.norm(points[:, None] - others[None], axis=2)
    price = 1e4
    costs = np.full((len(points), len(others) + len(points)), price)
    costs[:, : len(others)] = np.where(distances <= radius_px, distances, 1e9)
    rows, columns = linear_sum_assignment(costs)
    real = columns < len(others)
    return int(real.sum()), float(costs[rows, columns][real].sum())


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6), st.floats(0.02, 0.6), st.sampled_from([1.0, 2.5, 4.3]))
def test_pairs_are_the_most_and_the_nearest(seed: int, share: float, truth_share: float, radius_px: float):
    random = np.random.default_rng(seed)
    boundary, truth = random.random((12, 14)) < share, random.random((12, 14)) < truth_share
    matched, pairs = match_boundaries(boundary, truth, radius_px)
    if not boundary.any() or not truth.any():
        assert pairs == 0 == matched.sum()
        return
    count, total = assigned(boundary, truth, radius_px)
    assert pairs == count == matched.sum()
    assert not (matched & ~boundary).any()
    # The pixels that were chosen can be paired with the truth at the smallest total distance.
    assert assigned(matched, truth, radius_px) == (count, pytest.approx(total))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.6), st.sampled_from([1.0, 2.5, 4.3]))
def test_a_pixel_needs_a_partner_of_one_annotator(seed: int, share: float, radius_px: float):
    """Far apart, each part has one annotator only: what the others drew must change nothing there."""
    random = np.random.default_rng(seed)
    boundary, truths = np.zeros((12, 60), bool), np.zeros((3, 12, 60), bool)
    parts = [np.s_[:, 20 * i : 20 * i + 12] for i in range(3)]
    for truth, part in zip(truths, parts, strict=True):
        boundary[part], truth[part] = random.random((2, 12, 12)) < share
    matched, pairs = match_annotators(boundary, [*truths, np.zeros_like(boundary)], radius_px)
    alone = [match_boundaries(boundary, truth, radius_px) for truth in truths]
    assert pairs == sum(count for _, count in alone) == matched.sum()
    for truth, part in zip(truths, parts, strict=True):
        if boundary[part].any() and truth[part].any():
            count, total = assigned(boundary[part], truth[part], radius_px)
            assert assigned(matched[part], truth[part], radius_px) == (count, pytest.approx(total))


def test_near_pixels_are_those_that_all_distances_give():
    random = np.random.default_rng(3)
    boundary, truth = random.random((2, 15, 22)) < 0.3
    points, others = np.argwhere(boundary), np.argwhere(truth)
    distances = np.linalg.norm(points[:, None] - others[None], axis=2)
    rows, columns, lengths = near_pixels(points, truth, 4.3)
    np.testing.assert_array_equal(np.stack([rows, columns]), np.nonzero(distances <= 4.3))
    np.testing.assert_allclose(lengths, distances[rows, columns])


def test_a_map_is_its_own_match():
    drawn = np.zeros((40, 60), bool)
    drawn[10, 5:50] = drawn[5:35, 20] = True
    matched, pairs = match_boundaries(drawn, drawn, 3.0)
    assert pairs == drawn.sum()
    assert np.array_equal(matched, drawn)


def test_a_pixel_has_one_partner_only():
    drawn, thick = np.zeros((2, 20, 20), bool)
    drawn[10, 5:15] = True
    thick[8:13, 5:15] = True
    matched, pairs = match_boundaries(thick, drawn, 3.0)
    assert pairs == 10
    assert np.array_equal(matched, drawn)  # the nearest


@pytest.mark.parametrize("turn", [np.rot90, np.flipud, np.fliplr, np.transpose])
def test_turning_both_maps_changes_no_count(turn):
    random = np.random.default_rng(7)
    boundary, truth = random.random((2, 60, 90)) < 0.08
    _, pairs = match_boundaries(boundary, truth, 4.3)
    assert match_boundaries(turn(boundary), turn(truth), 4.3)[1] == pairs


def test_touching_rows_of_pixels_end_in_time():
    """The solver looped for ever on distances that were not whole numbers."""
    boundary, truth = np.zeros((2, 240, 240), bool)
    boundary[::3] = True
    truth[::4, ::2] = True
    _, pairs = match_boundaries(boundary, truth, 4.3)
    assert pairs == truth.sum()
