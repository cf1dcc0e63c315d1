"""TensorRT for RTX in the registry of engines. Its plans (`.rtx`) run with the same code as those of TensorRT."""

from __future__ import annotations

from .library import TENSORRT_RTX
from .network import device_network_from_file, library_line, network_from_file

__all__ = ["device_network_from_file", "network_from_file", "probe"]


def probe() -> str:
    """The library, for `fastsam doctor`.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return library_line(TENSORRT_RTX)
