"""Keeps the libraries of engines from reporting that they were used: nothing here looks up a host that nobody named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..system.variables import unless_set, variables

_OPENVINO = "openvino_telemetry"
_ONNX_RUNTIME = "ORT_DISABLE_TELEMETRY"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Import OpenVINO or ONNX Runtime in the block, for the first time in a process, and it reports nothing.

    OpenVINO looks up a host while it is imported, and fails for a user without a home folder; where its telemetry is
    not installed it has a stand-in. ONNX Runtime (1.32 and later) keeps an identifier in the user's cache folder and
    sends events; it reads its variable while it is imported. A value that the user has set stays.

    Example:
        >>> with without_telemetry():  # doctest: +SKIP
        ...     import openvino
    """
    module = sys.modules.get(_OPENVINO)
    sys.modules[_OPENVINO] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        with variables(unless_set({_ONNX_RUNTIME: "1"})):
            yield
    finally:
        del sys.modules[_OPENVINO]
        if module is not None:
            sys.modules[_OPENVINO] = module
