"""One-to-one matching of the pixels of two boundary maps: most pairs first, then the smallest total distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEPS_PER_PX = 4096
"""Distances are whole numbers of this unit: their sums are exact, and the solver loops for ever on rounding errors."""


def match_boundaries(
    boundary: NDArray[np.bool_], truth: NDArray[np.bool_], radius_px: float
) -> tuple[NDArray[np.bool_], int]:
    """Pair the pixels of two boundary maps, each pixel at most once.

    Among all ways to pair pixels that are at most `radius_px` apart, one with the most pairs is taken, and among those
    one with the smallest sum of distances. The original benchmark solves the same assignment with a price of 100 ×
    radius for a pixel without a partner, which gives up a pair only where that saves more than the price.

    Args:
        boundary: (h, w) bool, the map to judge.
        truth: (h, w) bool, what an annotator drew.
        radius_px: largest Euclidean distance of a pair, pixels.

    Returns:
        (h, w) bool, the pixels of `boundary` that have a partner, and the number of pairs.

    Example:
        >>> drawn, moved = np.zeros((2, 5, 5), bool)
        >>> drawn[:, 2], moved[:4, 3] = True, True
        >>> matched, pairs = match_boundaries(moved, drawn, 1.5)
        >>> bool((matched == moved).all()), pairs
        (True, 4)
    """
    matched = np.zeros_like(boundary)
    pixels, truth_pixels = np.argwhere(boundary), np.argwhere(truth)
    if not len(pixels) or not len(truth_pixels):
        return matched, 0
    has_partner, pairs = match_points(pixels, truth_pixels, radius_px)
    matched[tuple(pixels[has_partner].T)] = True
    return matched, pairs


def match_points(
    points: NDArray[np.int64], others: NDArray[np.int64], radius_px: float
) -> tuple[NDArray[np.bool_], int]:
    """Which points have a partner, see `match_boundaries`.

    In most of the graph, every point has a partner in every matching with the most pairs. Only where there are more
    points than others (Dulmage and Mendelsohn's decomposition tells where) do the distances decide. All others have a
    partner there, so the assignment is a complete one, and small.

    Args:
        points: (n, 2) row and column, n > 0.
        others: (m, 2) row and column, m > 0.
        radius_px: largest distance of a pair.

    Returns:
        (n,) bool, and the number of pairs.

    Example:
        >>> match_points(np.array([[0, 0], [0, 1]]), np.array([[0, 1], [0, 9]]), 2.0)
        (array([False,  True]), 1)
    """
    from scipy.spatial import cKDTree

    near = cKDTree(points).sparse_distance_matrix(cKDTree(others), radius_px, output_type="coo_matrix")
    partner, partner_of_other = _most_pairs(near.row, near.col, (len(points), len(others)))
    too_many = _reached(near.row, near.col, partner, partner_of_other)
    has_partner = ~too_many
    theirs = np.sort(partner[too_many & (partner >= 0)])
    if len(theirs):
        rows = np.flatnonzero(too_many)
        part = too_many[near.row]
        chosen = _nearest(
            np.searchsorted(theirs, near.col[part]),
            np.searchsorted(rows, near.row[part]),
            np.rint(near.data[part] * _STEPS_PER_PX) + 1,  # sparse matrices hold no zeros
            (len(theirs), len(rows)),
        )
        has_partner[rows[chosen]] = True
    return has_partner, int((partner >= 0).sum())


def _most_pairs(
    rows: NDArray[np.int32], columns: NDArray[np.int32], shape: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The partner of each row and of each column in a matching with the most pairs; -1 for none.

    As a flow: SciPy's matching of Hopcroft and Karp takes up to a thousand times as long on such graphs.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    n, m = shape
    source, sink = n + m, n + m + 1
    tails = np.concatenate([np.full(n, source), rows, np.arange(n, n + m)])
    heads = np.concatenate([np.arange(n), columns + n, np.full(m, sink)])
    capacities = csr_array((np.ones(len(tails), np.int32), (tails, heads)), shape=(n + m + 2, n + m + 2))
    flow = maximum_flow(capacities, source, sink, method="dinic").flow.tocoo()
    used = (flow.data > 0) & (flow.row < n)
    partner, partner_of_column = np.full(n, -1), np.full(m, -1)
    partner[flow.row[used]] = flow.col[used] - n
    partner_of_column[flow.col[used] - n] = flow.row[used]
    return partner, partner_of_column


def _nearest(
    rows: NDArray[np.int64], columns: NDArray[np.int64], lengths: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """The columns of the cheapest matching that has all rows. There is one."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    count, width = shape
    # Each row may also stay alone, at a price that no matching pays. Without this way out, SciPy's solver takes seconds
    # for some graphs that it solves in a millisecond with it.
    price = (lengths.max() + 1) * (count + 1)
    alone = np.arange(count)
    costs = np.concatenate([lengths, np.full(count, price)])
    places = np.concatenate([rows, alone]), np.concatenate([columns, alone + width])
    _, chosen = min_weight_full_bipartite_matching(csr_array((costs, places), shape=(count, width + count)))
    return np.asarray(chosen)


def _reached(
    start: NDArray[np.int32], end: NDArray[np.int32], partner: NDArray[np.int64], partner_of_end: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Points that alternating paths reach from those without a partner; these are included. (n,) bool."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    n = len(partner)
    alone = np.flatnonzero(partner < 0)
    goes_on = partner_of_end[end] >= 0
    # One more node, before all that are alone, so that a single search starts from each of them.
    tails = np.concatenate([start[goes_on], np.full(len(alone), n)])
    heads = np.concatenate([partner_of_end[end[goes_on]], alone])
    steps = csr_array((np.ones(len(tails)), (tails, heads)), shape=(n + 1, n + 1))
    reached = np.zeros(n + 1, bool)
    reached[breadth_first_order(steps, n, return_predecessors=False)] = True
    return reached[:n]
