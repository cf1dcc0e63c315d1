"""The boundary benchmark of BSDS500: precision and recall of an edge map at many thresholds, summed over images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .matching import match_annotators

MAX_DISTANCE = 0.0075
"""Pixels are paired up to this share of the diagonal of the image: 4.3 px for 481×321."""

_RECALL_STEPS = np.linspace(0, 1, 101)
_BLENDS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False)
class BoundaryCounts:
    """Pixel counts of one image, or sums over images, at t thresholds.

    Attributes:
        matched_truth: (t,) int64, pixels of all annotators' boundaries that have a partner.
        truth: (t,) int64, pixels of all annotators' boundaries; the same for each threshold.
        matched: (t,) int64, pixels of the thresholded map that have a partner in at least one annotator's boundaries.
        boundary: (t,) int64, pixels of the thresholded map.

    Example:
        >>> ones = np.ones(1, np.int64)
        >>> BoundaryCounts(3 * ones, 4 * ones, ones, 2 * ones).recall()
        array([0.75])
    """

    matched_truth: NDArray[np.int64]
    truth: NDArray[np.int64]
    matched: NDArray[np.int64]
    boundary: NDArray[np.int64]

    def recall(self) -> NDArray[np.float64]:
        """(t,) float64; 0 where nothing is drawn."""
        return self.matched_truth / np.maximum(self.truth, 1)

    def precision(self) -> NDArray[np.float64]:
        """(t,) float64; 0 where the map is empty."""
        return self.matched / np.maximum(self.boundary, 1)

    def at(self, index: int) -> BoundaryCounts:
        """The counts at one threshold, with t = 1."""
        part = slice(index, index + 1)
        return BoundaryCounts(self.matched_truth[part], self.truth[part], self.matched[part], self.boundary[part])

    @classmethod
    def sum_of(cls, counts: Iterable[BoundaryCounts]) -> BoundaryCounts:
        """Counts of several images together. There is at least one."""
        columns = zip(*((c.matched_truth, c.truth, c.matched, c.boundary) for c in counts), strict=True)
        return cls(*(np.sum(column, axis=0) for column in columns))


@dataclass(frozen=True)
class BoundaryScores:
    """Results over a data set, as the original benchmark prints them.

    Attributes:
        threshold: the best threshold for all images.
        recall, precision, ods: at it; `ods` is the F-measure.
        ois_recall, ois_precision, ois: with the best threshold for each image.
        ap: area under the curve of precision over recall, from recall 0 to 1.
        r50: recall at a precision of 50 %.

    Example:
        >>> ones = np.full(3, 9)
        >>> counts = BoundaryCounts(np.array([9, 8, 4]), ones, np.array([9, 8, 4]), np.array([12, 8, 4]))
        >>> round(scores_of([counts], thresholds(3)).ods, 3)
        0.941
    """

    threshold: float
    recall: float
    precision: float
    ods: float
    ois_recall: float
    ois_precision: float
    ois: float
    ap: float
    r50: float


def thresholds(count: int = 99) -> NDArray[np.float64]:
    """Evenly spaced between 0 and 1, without the ends. (count,) float64.

    Example:
        >>> thresholds(3).tolist()
        [0.25, 0.5, 0.75]
    """
    return np.linspace(1 / (count + 1), 1 - 1 / (count + 1), count)


def count_edges(
    edges: NDArray[np.floating], truths: Sequence[NDArray[np.bool_]], at: NDArray[np.float64]
) -> BoundaryCounts:
    """Compare an edge map with the boundaries of all annotators, at each threshold.

    The map is thresholded, then thinned to lines of one pixel as in the original benchmark (Guo and Hall, which is
    MATLAB's `bwmorph(…, 'thin', inf)`).

    Args:
        edges: (h, w) float in [0, 1].
        truths: (h, w) bool of each annotator.
        at: (t,) thresholds; a pixel belongs to the map if its value is at least the threshold.

    Example:
        >>> drawn = np.eye(20, dtype=bool)
        >>> counts = count_edges(drawn * 0.8, [drawn], thresholds(3))
        >>> counts.recall().tolist(), counts.precision().tolist()
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    """
    return _count(lambda i: edges >= at[i], len(at), truths)


def count_partitions(partitions: Sequence[NDArray[np.integer]], truths: Sequence[NDArray[np.bool_]]) -> BoundaryCounts:
    """Compare the boundaries of t segmentations of one image with those of all annotators.

    Args:
        partitions: (h, w) labels, one array for each "threshold".
        truths: (h, w) bool of each annotator.

    Example:
        >>> labels = np.repeat([[1, 2]], 8, axis=0).repeat(4, axis=1)
        >>> count_partitions([labels], [borders(labels)]).precision().tolist()
        [1.0]
    """
    return _count(lambda i: borders(partitions[i]), len(partitions), truths)


def borders(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Boundary pixels of a partition: those that differ from the pixel to the right, below, or diagonally below.

    This is the convention of BSDS500 for maps of the size of the image.

    Args:
        labels: (h, w) integers.

    Returns:
        (h, w) bool; the last row and column compare with their one neighbour.

    Example:
        >>> borders(np.array([[1, 1, 2], [1, 1, 2]])).astype(int).tolist()
        [[0, 1, 0], [0, 1, 0]]
    """
    below, right, diagonal = (np.roll(labels, shift, (0, 1)) for shift in ((-1, 0), (0, -1), (-1, -1)))
    different = (labels != below) | (labels != right) | (labels != diagonal)
    different[-1] = labels[-1] != right[-1]
    different[:, -1] = labels[:, -1] != below[:, -1]
    different[-1, -1] = False
    return np.asarray(different, bool)


def scores_of(counts: Sequence[BoundaryCounts], at: NDArray[np.float64]) -> BoundaryScores:
    """Results over a data set.

    Args:
        counts: of each image; at least one.
        at: (t,) the thresholds, in the same order.

    Example:
        >>> ones = np.ones(2, np.int64)
        >>> scores_of([BoundaryCounts(ones, ones, ones, ones)], thresholds(2)).ods
        1.0
    """
    total = BoundaryCounts.sum_of(counts)
    recall, precision = total.recall(), total.precision()
    threshold, best_recall, best_precision, ods = _best_f(at, recall, precision)
    of_best = BoundaryCounts.sum_of(
        each.at(int(np.argmax(_f_measure(each.recall(), each.precision())))) for each in counts
    )
    ois_recall, ois_precision = float(of_best.recall()[0]), float(of_best.precision()[0])
    return BoundaryScores(
        threshold, best_recall, best_precision, ods,
        ois_recall, ois_precision, float(_f_measure(of_best.recall(), of_best.precision())[0]),
        _area(recall, precision), _recall_at_half(recall, precision),
    )  # fmt: skip


def _count(
    boundary_at: Callable[[int], NDArray[np.bool_]], count: int, truths: Sequence[NDArray[np.bool_]]
) -> BoundaryCounts:
    from skimage.morphology import thin

    radius_px = MAX_DISTANCE * float(np.hypot(*truths[0].shape))
    drawn = sum(int(truth.sum()) for truth in truths)
    rows = np.zeros((4, count), np.int64)
    previous: NDArray[np.bool_] | None = None
    for i in range(count):
        thick = boundary_at(i)
        if previous is not None and np.array_equal(thick, previous):
            rows[:, i] = rows[:, i - 1]  # maps of 8 bits have few levels
            continue
        previous = thick
        boundary = thin(thick)
        matched, pairs = match_annotators(boundary, truths, radius_px)
        rows[:, i] = pairs, drawn, int(matched.sum()), int(boundary.sum())
    return BoundaryCounts(*rows)


def _f_measure(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    total = recall + precision
    return 2 * recall * precision / np.where(total == 0, 1, total)


def _best_f(
    at: NDArray[np.float64], recall: NDArray[np.float64], precision: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """Threshold, recall, precision and F where F is largest, also between neighbouring thresholds."""
    if len(at) == 1:
        return float(at[0]), float(recall[0]), float(precision[0]), float(_f_measure(recall, precision)[0])
    blends = _BLENDS[:, None]
    mixed = [values[1:] * blends + values[:-1] * (1 - blends) for values in (at, recall, precision)]
    f = _f_measure(mixed[1], mixed[2])
    best = np.unravel_index(int(np.argmax(f)), f.shape)
    return (*(float(values[best]) for values in mixed), float(f[best]))  # type: ignore[return-value]


def _area(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    known, first = np.unique(recall, return_index=True)
    if len(known) < 2:
        return 0.0
    heights = np.interp(_RECALL_STEPS, known, precision[first], left=0, right=0)
    return float(heights.sum() * 0.01)


def _recall_at_half(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    known, first = np.unique(precision, return_index=True)
    if len(known) < 2:
        return float(recall[0]) if precision[0] >= 0.5 else 0.0
    return float(np.interp(max(known[0], 0.5), known, recall[first]))
