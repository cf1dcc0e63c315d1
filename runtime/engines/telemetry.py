"""Keeps OpenVINO from reporting that it was imported: nothing here looks up a host that nobody named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARY = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Hide OpenVINO's telemetry in the block. An `import openvino` there uses the stand-in that OpenVINO has for it.

    Otherwise the import looks up a host, and fails for a user without a home folder.

    Example:
        >>> with without_telemetry():  # doctest: +SKIP
        ...     import openvino
    """
    known = sys.modules.get(_LIBRARY)
    sys.modules[_LIBRARY] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        yield
    finally:
        del sys.modules[_LIBRARY]
        if known is not None:
            sys.modules[_LIBRARY] = known
