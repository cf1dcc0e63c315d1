"""The boundary benchmark, against what the original one prints, and on maps whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from skimage.morphology import thin

from fastsam_deploy.runtime.accuracy.boundaries import (
    BoundaryCounts,
    BoundaryScores,
    borders,
    count_edges,
    count_partitions,
    scores_of,
    thresholds,
)
from fastsam_deploy.runtime.accuracy.bsds import pair_files, read_ground_truth, read_prediction
from fastsam_deploy.runtime.accuracy.regions import compare_regions, summary_of
from tests.conftest import SHARED

BENCH = SHARED / "data/bsds_bench"
BSDS500 = SHARED / "data/bsds500"
published = pytest.mark.skipif(
    not BENCH.is_dir(), reason="needs the self-test of BSDS500, which is not in the repository"
)

TOLERANCE = 0.002


def printed(name: str) -> list[float]:
    return [float(number) for number in (BENCH / name).read_text().split()]


def measured(kind: str, levels: np.ndarray) -> BoundaryScores:
    counts = []
    for truth_file, file in pair_files(BENCH / "groundTruth", BENCH / kind):
        truth, prediction = read_ground_truth(truth_file), read_prediction(file)
        counts.append(
            count_partitions(prediction.partitions, truth.boundaries)
            if prediction.edges is None
            else count_edges(prediction.edges, truth.boundaries, levels)
        )
    return scores_of(counts, levels)


@published
@pytest.mark.parametrize(
    ("kind", "results", "levels"),
    [
        ("ucm2", "test_1", thresholds(5)),
        ("png", "test_2", thresholds(5)),
        ("segs", "test_3", np.arange(1.0, 6)),
        ("segs", "test_4", np.arange(1.0, 6)),
    ],
)
def test_boundaries_are_judged_as_by_the_original_benchmark(kind: str, results: str, levels: np.ndarray):
    scores = measured(kind, levels)
    threshold, *rest = printed(f"{results}/eval_bdry.txt")
    assert scores.threshold == pytest.approx(threshold, abs=1e-5)
    ours = [
        scores.recall, scores.precision, scores.ods,
        scores.ois_recall, scores.ois_precision, scores.ois, scores.ap,
    ]  # fmt: skip
    assert ours == pytest.approx(rest, abs=TOLERANCE)


@published
@pytest.mark.parametrize(
    ("kind", "results", "levels"),
    [("ucm2", "test_1", thresholds(5)), ("segs", "test_4", np.arange(1.0, 6)), ("segs", "test_5", np.arange(1.0, 6))],
)
def test_regions_are_judged_as_by_the_original_benchmark(kind: str, results: str, levels: np.ndarray):
    scores = []
    for truth_file, file in pair_files(BENCH / "groundTruth", BENCH / kind):
        partitions = read_prediction(file).partitions_at(levels)
        assert partitions is not None
        scores.append(compare_regions(partitions, read_ground_truth(truth_file).partitions))
    summary = summary_of(scores, levels)
    covering = [summary.covering_threshold, summary.covering_ods, summary.covering_ois, summary.covering_best]
    pairs = [
        summary.rand_threshold, summary.rand_ods, summary.rand_ois,
        summary.information_threshold, summary.information_ods, summary.information_ois,
    ]  # fmt: skip
    assert covering == pytest.approx(printed(f"{results}/eval_cover.txt"), abs=TOLERANCE)
    assert pairs == pytest.approx(printed(f"{results}/eval_RI_VOI.txt"), abs=TOLERANCE)


def drawing() -> np.ndarray:
    """(60, 80) labels of three regions."""
    labels = np.ones((60, 80), int)
    labels[20:50, 10:40] = 2
    labels[5:30, 50:75] = 3
    return labels


def test_a_perfect_map_has_an_f_of_one():
    truth = thin(borders(drawing()))
    scores = scores_of([count_edges(truth * 1.0, [truth, truth], thresholds(9))], thresholds(9))
    assert (scores.ods, scores.ois) == (1.0, 1.0)


def test_an_empty_map_has_nothing():
    truth = borders(drawing())
    scores = scores_of([count_edges(np.zeros(truth.shape), [truth], thresholds(9))], thresholds(9))
    assert (scores.ods, scores.ois, scores.ap, scores.r50) == (0, 0, 0, 0)


def test_a_map_that_is_twice_too_long_has_half_the_precision():
    truth, both = np.zeros((2, 100, 100), bool)
    truth[30, 10:60] = True
    both[[30, 70], 10:60] = True
    counts = count_edges(both * 0.9, [truth], thresholds(3))
    assert counts.recall().tolist() == [1, 1, 1]
    assert counts.precision().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("turn", [np.rot90, np.flipud, np.fliplr])
def test_turned_images_have_the_same_counts(turn: Callable[[np.ndarray], np.ndarray]):
    random = np.random.default_rng(3)
    truth = borders(drawing())
    edges = np.where(random.random(truth.shape) < 0.05, random.random(truth.shape), truth * 0.7)
    turned = count_edges(turn(edges), [turn(truth)], thresholds(4))
    straight = count_edges(edges, [truth], thresholds(4))
    assert np.abs(turned.matched_truth - straight.matched_truth).max() <= 2  # thinning chooses a side
    assert np.abs(turned.matched - straight.matched).max() <= 2


@pytest.mark.slow
@pytest.mark.skipif(not BSDS500.is_dir(), reason="needs BSDS500, which is not in the repository")
def test_annotators_agree_with_each_other_as_published():
    """Each annotator against the others. The literature has F = 0.79 to 0.80 for humans."""
    counts = []
    for path in sorted((BSDS500 / "groundTruth/val").glob("*.mat")):
        boundaries = read_ground_truth(path).boundaries
        counts += [
            count_edges(one * 1.0, [*boundaries[:i], *boundaries[i + 1 :]], np.array([0.5]))
            for i, one in enumerate(boundaries)
        ]
    assert 0.76 <= scores_of(counts, np.array([0.5])).ods <= 0.83


def test_one_hard_image_may_take_ois_below_ods():
    # Two thresholds. The second image is best at the first, where it draws 200 pixels and 170 of them are wrong.
    easy = BoundaryCounts(*(np.array(row) for row in ([91, 90], [100, 100], [91, 90], [120, 100])))
    hard = BoundaryCounts(*(np.array(row) for row in ([30, 10], [100, 100], [30, 10], [200, 12])))
    scores = scores_of([easy, hard], thresholds(2))
    assert (scores.ois_recall, scores.ois_precision, scores.ois) == pytest.approx((0.6, 0.4, 0.48))
    assert scores.ods > 0.64 > scores.ois
