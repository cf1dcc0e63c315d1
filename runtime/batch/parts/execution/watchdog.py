"""The end of a process that takes too long, by a timer of C code: it needs no lock of Python, which may be held."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process, with exit code 1, if the block takes longer, or what follows the last `rearm` in it.

    Example:
        >>> with time_limit(60):
        ...     rearm(60)
    """
    rearm(seconds)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def rearm(seconds: float) -> None:
    """Let the time begin anew.

    Example:
        >>> with time_limit(60):
        ...     rearm(30)
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=_nowhere())


@cache
def _nowhere() -> int:
    """Where the traceback goes; open for as long as the process lives."""
    return os.open(os.devnull, os.O_WRONLY)
