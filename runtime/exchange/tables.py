"""Segments as a pandas DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import MissingDependencyError, pip_install
from ..formats import Columns
from ..formats.csv import names_for, rows

if TYPE_CHECKING:
    from pandas import DataFrame

_TYPES = {"segment": "int64", "class": "int64", "area": "int64", "prompt": "Int64", "track_id": "Int64"}


def to_dataframe(columns: Columns) -> DataFrame:
    """A row for each segment; columns as in `formats.csv`, `prompt` is missing (`<NA>`) without a prompt.

    Raises:
        MissingDependencyError: pandas is not installed.

    Example:
        >>> to_dataframe(segments).query("score > 0.8").area.median()  # doctest: +SKIP
        1204.0
    """
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise MissingDependencyError(f"to_dataframe: {error}; run: {pip_install('pandas')}") from error
    names = names_for(columns)
    table = DataFrame(rows(columns), columns=list(names))
    return table.astype({name: _TYPES.get(name, "float64") for name in names if name != "class_name"})
