"""One-to-one matching of the pixels of two boundary maps: most pairs first, then the smallest total distance."""

from __future__ import annotations

from collections.abc import Sequence

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
    return match_annotators(boundary, [truth], radius_px)


def match_annotators(
    boundary: NDArray[np.bool_], truths: Sequence[NDArray[np.bool_]], radius_px: float
) -> tuple[NDArray[np.bool_], int]:
    """Pair the pixels of a boundary map with those of each annotator, see `match_boundaries`.

    In most of the graph, every pixel has a partner in every matching with the most pairs. Only where there are more
    pixels than the annotator drew (Dulmage and Mendelsohn's decomposition tells where) do the distances decide. What
    the annotator drew has a partner there, so the assignment is a complete one, and small. It is solved for those
    connected parts only in which some pixel has no partner of another annotator.

    Args:
        boundary: (h, w) bool, the map to judge.
        truths: (h, w) bool of each annotator.
        radius_px: largest Euclidean distance of a pair, pixels.

    Returns:
        (h, w) bool, the pixels of `boundary` that have a partner with at least one annotator, and the number of pairs
        with all of them.

    Example:
        >>> drawn, moved = np.zeros((2, 5, 5), bool)
        >>> drawn[:, 2], moved[:4, 3] = True, True
        >>> match_annotators(moved, [drawn, drawn], 1.5)[1]
        8
    """
    matched = np.zeros_like(boundary)
    pixels = np.argwhere(boundary)
    drawn = [truth for truth in truths if truth.any()] if len(pixels) else []
    graphs = [_Graph(pixels, truth, radius_px) for truth in drawn]
    has_partner = np.zeros(len(pixels), bool)
    for graph in graphs:
        has_partner |= ~graph.too_many
    for graph in graphs:
        has_partner[graph.nearest(~has_partner)] = True
    matched[tuple(pixels[has_partner].T)] = True
    return matched, sum(graph.pairs for graph in graphs)


class _Graph:
    """Pixels of a map and of an annotator that are near each other, and a matching with the most pairs.

    Attributes:
        pairs: how many there are.
        too_many: (n,) bool, pixels of the map that not every such matching gives a partner.
    """

    def __init__(self, pixels: NDArray[np.int64], truth: NDArray[np.bool_], radius_px: float) -> None:
        self._rows, self._columns, self._lengths = near_pixels(pixels, truth, radius_px)
        shape = len(pixels), int(np.count_nonzero(truth))
        self._partner, partner_of_column = _most_pairs(self._rows, self._columns, shape)
        self.pairs = int((self._partner >= 0).sum())
        self.too_many = _reached(self._rows, self._columns, self._partner, partner_of_column)

    def nearest(self, open_pixels: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Pixels with a partner in the connected parts of `too_many` that have an open pixel, by the distances."""
        part = self.too_many[self._rows]
        rows, columns, lengths = self._rows[part], self._columns[part], self._lengths[part]
        wanted = _parts_with(self.too_many & open_pixels, rows, columns)
        rows, columns, lengths = rows[wanted], columns[wanted], lengths[wanted]
        theirs, column_numbers = np.unique(columns, return_inverse=True)
        if not len(theirs):
            return np.zeros(0, np.int64)
        mine, row_numbers = np.unique(rows, return_inverse=True)
        steps = np.rint(lengths * _STEPS_PER_PX) + 1  # sparse matrices hold no zeros
        return np.asarray(mine[_nearest(column_numbers, row_numbers, steps, (len(theirs), len(mine)))])


def near_pixels(
    pixels: NDArray[np.int64], truth: NDArray[np.bool_], radius_px: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Pairs of pixels that are at most a radius apart.

    Args:
        pixels: (n, 2) row and column, inside the map.
        truth: (h, w) bool; its pixels are numbered row by row.
        radius_px: largest distance.

    Returns:
        (p,) number of the pixel, ascending; (p,) number of the truth's pixel, ascending for each pixel; (p,) distance.

    Example:
        >>> rows, columns, lengths = near_pixels(np.array([[0, 0]]), np.ones((2, 2), bool), 1.0)
        >>> columns.tolist(), lengths.tolist()
        ([0, 1, 2], [0.0, 1.0, 1.0])
    """
    reach = int(radius_px)
    height, width = truth.shape
    numbers = np.full((height + 2 * reach, width + 2 * reach), -1, np.int32)
    numbers[reach : reach + height, reach : reach + width][truth] = np.arange(np.count_nonzero(truth))
    steps = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    distances = np.hypot(*steps)
    near = distances <= radius_px
    offsets = steps[0, near] * numbers.shape[1] + steps[1, near]
    places = (pixels[:, 0] + reach) * numbers.shape[1] + pixels[:, 1] + reach
    columns = numbers.reshape(-1)[places[:, None] + offsets]
    places = np.flatnonzero(columns >= 0)
    rows, which = np.divmod(places, len(offsets))
    return rows.astype(np.int32), columns.reshape(-1)[places], distances[near][which]


def _parts_with(wanted: NDArray[np.bool_], rows: NDArray[np.int32], columns: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which edges of a graph are in a connected part with a row that is wanted."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n, m = len(wanted), int(columns.max(initial=-1)) + 1
    graph = csr_array((np.ones(len(rows), np.int8), (rows, columns + n)), shape=(n + m, n + m))
    count, labels = connected_components(graph, directed=False)
    has_wanted = np.zeros(count, bool)
    has_wanted[labels[:n][wanted]] = True
    return np.asarray(has_wanted[labels[rows]])


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
    heads = np.concatenate([columns + n, np.full(m, sink), np.arange(n)]).astype(np.int32)
    degrees = np.concatenate([np.bincount(rows, minlength=n), np.ones(m, int), [n, 0]])
    starts = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int32)
    capacities = csr_array((np.ones(len(heads), np.int32), heads, starts), shape=(n + m + 2, n + m + 2))
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
