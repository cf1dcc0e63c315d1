"""What every engine offers: a network of any kind, and a segmentation network on top of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from ..network import OpenNetwork
from ..spec import ModelSpec


class Network(OpenNetwork, Protocol):
    """Any network that is ready to run. Thread-safe. `close` may be called twice."""

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The outputs of these names, arrays of the caller's own.

        Args:
            feed: every input, of the dtype and a shape that the network takes.

        Raises:
            ModelError: the network is closed, or failed to run.
        """
        ...


class Engine(Protocol):
    """A segmentation network that is ready to run. Thread-safe. `close` may be called twice."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def device(self) -> str:
        """See `Network.device`."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """See `Network.description`."""
        ...

    def run(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """(b, 3, H, W) float32 RGB in [0, 1] → {"detections": …, "prototypes": …}, arrays of the caller's own.

        In the layout "split" the detections are joined to rows as in "nms", and `num_dets` says how many are real.

        Raises:
            ParameterError: the shape is one that the model does not take.
            ModelError: the network failed to run, or its outputs are not those of a segmentation network.
        """
        ...

    def close(self) -> None: ...
