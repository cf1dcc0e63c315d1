"""Variables of the environment for the length of a block: libraries read them while they are imported or start."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables in the block; afterwards they are as before.

    Args:
        values: by name.

    Example:
        >>> with variables({"FASTSAM_EXAMPLE": "1"}):
        ...     os.environ["FASTSAM_EXAMPLE"]
        '1'
        >>> "FASTSAM_EXAMPLE" in os.environ
        False
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def unless_set(values: Mapping[str, str]) -> dict[str, str]:
    """The same, but for variables that the user has set: these stay.

    Example:
        >>> with variables({"FASTSAM_EXAMPLE": "1"}):
        ...     unless_set({"FASTSAM_EXAMPLE": "0", "FASTSAM_OTHER": "0"})
        {'FASTSAM_EXAMPLE': '1', 'FASTSAM_OTHER': '0'}
    """
    return {name: os.environ.get(name, value) for name, value in values.items()}
