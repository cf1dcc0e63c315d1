"""A model file as a network, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..settings import EngineSettings
from .failures import GuardedNetwork, as_model_error
from .registry import engine_for

if TYPE_CHECKING:
    from .interface import Network


def open_file(path: Path, settings: EngineSettings) -> Network:
    """Open a model file with the engine that the settings name, or the usual one. Raises: see `open_network`.

    Example:
        >>> network = open_file(Path("FastSAM-s.onnx"), EngineSettings(threads=2))  # doctest: +SKIP
    """
    entry = engine_for(path, settings)
    module = entry.load(path.name, settings.device)
    with as_model_error(str(path), "cannot be opened"):
        return GuardedNetwork(module.network_from_file(path, settings))
