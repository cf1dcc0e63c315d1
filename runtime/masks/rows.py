"""Which rows of parallel arrays are meant: a slice, bools, or numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = slice | Sequence[int] | Sequence[bool] | NDArray[np.bool_] | NDArray[np.integer[Any]]
"""A slice, one bool for each row, or row numbers in the order wanted."""


def row_numbers(rows: Rows, count: int) -> NDArray[np.int64]:
    """(k,) int64, the numbers of the rows that are meant among `count`.

    Raises:
        IndexError: a number does not exist, rows are no list, or there are more or fewer bools than rows.

    Example:
        >>> row_numbers([True, False, True], 3)
        array([0, 2])
        >>> row_numbers(slice(None, None, -1), 3)
        array([2, 1, 0])
    """
    if not isinstance(rows, slice):
        rows = np.asarray(rows)
        if rows.ndim != 1:
            raise IndexError(
                f"rows are {rows.tolist()!r:.60}, expected a slice, a list of row numbers or one bool for each row; "
                "row 0 alone is [0:1] or [[0]], its pixels are masks.dense()[0]"
            )
        rows = rows if rows.size else rows.astype(np.int64)  # NumPy makes an empty list float
    numbers: NDArray[np.int64] = np.arange(count)[rows]
    return numbers
