"""What every open network says of itself, wherever it runs: its name, its tensors and its device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a network.

    Attributes:
        name: name of the tensor.
        dtype: name of its NumPy dtype; "bytes" for strings.
        shape: size of each dimension, None where it may vary.

    Example:
        >>> str(TensorInfo("images", "float32", (None, 3, 640, 640)))
        'images (?, 3, 640, 640) float32'
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name} ({dims}) {self.dtype}"


class OpenNetwork(Protocol):
    """A network that has been opened: on host arrays, on device pointers, or on a server. `close` may be called twice.

    Example:
        >>> [str(tensor) for tensor in network.outputs]  # doctest: +SKIP
        ['output0 (?, 37, ?) float32', 'output1 (?, 32, ?, ?) float32']
    """

    @property
    def name(self) -> str:
        """What messages call it: a file name or an address."""
        ...

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself (ONNX metadata_props, or a plan's JSON)."""
        ...

    @property
    def device(self) -> str:
        """The device it runs on: "cpu", "cuda:0", …"""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """Library, version and settings in use, for reports."""
        ...

    def close(self) -> None: ...
