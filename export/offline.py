"""Keeps ultralytics from looking up hosts that nobody has asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..runtime.system.variables import unless_set, variables

_OFFLINE = "YOLO_OFFLINE"


@contextmanager
def without_lookups() -> Iterator[None]:
    """Import ultralytics in the block, for the first time in a process, and it looks up no host.

    It asks at its import whether it is online, by the names of two public servers, and would later send usage. Its own
    variable for that is read at the import, and is as before after the block: the download of official weights by
    name, which is asked for, works. A value that the user has set stays.

    Example:
        >>> with without_lookups():  # doctest: +SKIP
        ...     import ultralytics
    """
    with variables(unless_set({_OFFLINE: "1"})):
        yield
