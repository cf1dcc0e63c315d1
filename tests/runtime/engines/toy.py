"""An engine for the tests of the registry: NumPy alone, and what every image shows is one square in the middle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime.engines.registry import EngineEntry
from fastsam_deploy.runtime.network import TensorInfo
from fastsam_deploy.runtime.settings import EngineSettings

ENTRY = EngineEntry(
    "toy",
    library="numpy",
    module=__name__,
    extras={"cpu": "toy"},
    suffixes=(".toy",),
    settings=frozenset({"device", "engine", "threads"}),
    beside=(".weights",),
)


class ToyNetwork:
    """A `Network`: one detection that fills the middle half of the input, with a mask that is all of its box."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self.name, self.device = path.name, settings.device
        self.metadata: Mapping[str, str] = {}
        self.description: dict[str, Any] = {"engine": "toy", "threads": settings.threads}
        self.inputs = (TensorInfo("images", "float32", (None, 3, None, None)),)
        self.outputs = (
            TensorInfo("output0", "float32", (None, 37, None)),
            TensorInfo("output1", "float32", (None, 32, None, None)),
        )

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        batch, _, height, width = feed["images"].shape
        detections = np.zeros((batch, 37, 8), np.float32)
        detections[:, :6, 3] = [width / 2, height / 2, width / 2, height / 2, 0.9, 1]
        return [detections, np.ones((batch, 32, height // 4, width // 4), np.float32)]

    def close(self) -> None:
        pass


def network_from_file(path: Path, settings: EngineSettings) -> ToyNetwork:
    return ToyNetwork(path, settings)


def probe() -> str:
    return "always there"
