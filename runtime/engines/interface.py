"""What every engine offers: a network of any kind, and a segmentation network on top of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from ..spec import ModelSpec, TensorInfo


class Network(Protocol):
    """Any network that is ready to run. Thread-safe. `close` may be called twice."""

    @property
    def name(self) -> str:
        """What messages call it: file name or address."""
        ...

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself (ONNX metadata_props)."""
        ...

    @property
    def device(self) -> str:
        """What it runs on, as asked for: "cpu", "cuda:0", …"""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """Library, version and settings in use, for reports."""
        ...

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """The outputs of these names, arrays of the caller's own.

        Args:
            feed: every input, of the dtype and a shape that the network takes.

        Raises:
            ModelError: the network is closed, or failed to run.
        """
        ...

    def close(self) -> None: ...


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
