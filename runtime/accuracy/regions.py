"""The region benchmark of BSDS500: segmentation covering, Rand index and variation of information."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class RegionScores:
    """How t segmentations of one image agree with those of its annotators.

    Attributes:
        covered: (t,) float64, pixels that are covered: for each region of each annotator, its size times its best IoU.
        covered_at_best: as `covered`, with the best of the t segmentations for each region.
        total: pixels of all annotators' regions.
        rand_index: (t,) float64, mean over the annotators of the share of pixel pairs on which both agree.
        variation_of_information: (t,) float64, mean over the annotators, in bits; 0 is best.

    Example:
        >>> labels = np.array([[1, 1, 2, 2]])
        >>> scores = compare_regions([labels], [labels])
        >>> scores.covered / scores.total, scores.rand_index, scores.variation_of_information.round(6)
        (array([1.]), array([1.]), array([0.]))
    """

    covered: NDArray[np.float64]
    covered_at_best: float
    total: int
    rand_index: NDArray[np.float64]
    variation_of_information: NDArray[np.float64]


@dataclass(frozen=True)
class RegionSummary:
    """Results over a data set: with the best threshold for all images (ods), and for each image (ois).

    Attributes:
        covering_threshold, covering_ods, covering_ois: share of the pixels covered.
        covering_best: with the best segmentation for each region.
        rand_threshold, rand_ods, rand_ois: Rand index, the mean of the images.
        information_threshold, information_ods, information_ois: variation of information, bits, the mean of the images.

    Example:
        >>> labels = np.array([[1, 1, 2, 2]])
        >>> summary_of([compare_regions([labels], [labels])], np.array([0.5])).covering_ods
        1.0
    """

    covering_threshold: float
    covering_ods: float
    covering_ois: float
    covering_best: float
    rand_threshold: float
    rand_ods: float
    rand_ois: float
    information_threshold: float
    information_ods: float
    information_ois: float


def compare_regions(partitions: Sequence[NDArray[np.integer]], truths: Sequence[NDArray[np.integer]]) -> RegionScores:
    """Compare t segmentations of one image with those of all annotators.

    Args:
        partitions: (h, w) labels, one array for each threshold.
        truths: (h, w) labels of each annotator.

    Example:
        >>> halves, whole = np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]])
        >>> compare_regions([whole], [halves]).covered
        array([2.])
    """
    tables = [[_shared_pixels(partition, truth) for truth in truths] for partition in partitions]
    ious = [np.concatenate([_best_iou(table) for table in row]) for row in tables]
    sizes = np.concatenate([table.sum(axis=0) for table in tables[0]])
    return RegionScores(
        covered=np.array([float(sizes @ iou) for iou in ious]),
        covered_at_best=float(sizes @ np.max(ious, axis=0)),
        total=int(sizes.sum()),
        rand_index=np.array([np.mean([_rand_index(table) for table in row]) for row in tables]),
        variation_of_information=np.array([np.mean([_information(table) for table in row]) for row in tables]),
    )


def summary_of(scores: Sequence[RegionScores], at: NDArray[np.float64]) -> RegionSummary:
    """Results over a data set.

    Args:
        scores: of each image; at least one.
        at: (t,) the thresholds of the segmentations.

    Example:
        >>> whole, halves = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])
        >>> summary_of([compare_regions([whole, halves], [halves])], np.array([0.3, 0.6])).covering_threshold
        0.6
    """
    total = sum(each.total for each in scores)
    covering = np.sum([each.covered for each in scores], axis=0) / total
    rand = np.mean([each.rand_index for each in scores], axis=0)
    information = np.mean([each.variation_of_information for each in scores], axis=0)
    best, best_rand, best_information = int(covering.argmax()), int(rand.argmax()), int(information.argmin())
    return RegionSummary(
        float(at[best]), float(covering[best]), sum(float(each.covered.max()) for each in scores) / total,
        sum(each.covered_at_best for each in scores) / total,
        float(at[best_rand]), float(rand[best_rand]), float(np.mean([each.rand_index.max() for each in scores])),
        float(at[best_information]), float(information[best_information]),
        float(np.mean([each.variation_of_information.min() for each in scores])),
    )  # fmt: skip


def _shared_pixels(partition: NDArray[np.integer], truth: NDArray[np.integer]) -> NDArray[np.int64]:
    """(regions, regions of truth) int64: pixels in both."""
    _, ours = np.unique(partition, return_inverse=True)
    _, theirs = np.unique(truth, return_inverse=True)
    columns = int(theirs.max()) + 1
    counts = np.bincount(ours.ravel() * columns + theirs.ravel(), minlength=(int(ours.max()) + 1) * columns)
    return counts.reshape(-1, columns)


def _best_iou(table: NDArray[np.int64]) -> NDArray[np.float64]:
    union = table.sum(axis=1)[:, None] + table.sum(axis=0)[None] - table
    best: NDArray[np.float64] = (table / union).max(axis=0)
    return best


def _rand_index(table: NDArray[np.int64]) -> float:
    """Share of the pixel pairs that are together in both, or apart in both."""
    pixels = float(table.sum())
    squares = float(np.square(table.astype(np.float64)).sum())
    ours, theirs = (float(np.square(table.sum(axis=axis).astype(np.float64)).sum()) for axis in (1, 0))
    return 1 - (0.5 * (ours + theirs) - squares) / (pixels * (pixels - 1) / 2)


def _information(table: NDArray[np.int64]) -> float:
    """H(ours | truth) + H(truth | ours), bits."""
    joint = table / table.sum()
    return 2 * _entropy(joint.ravel()) - _entropy(joint.sum(axis=0)) - _entropy(joint.sum(axis=1))


def _entropy(shares: NDArray[np.float64]) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum())
