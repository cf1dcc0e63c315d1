"""What runs a network. `open_network` and `open_engine` are the doors; each library is imported behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from ..connection import Address, Connection, is_address
from ..errors import MissingDependencyError, ModelError, ParameterError
from ..spec import ModelSpec, TensorInfo

if TYPE_CHECKING:
    from .triton_client import TritonClient

_BY_SUFFIX = {".onnx": "onnxruntime"}
_EXTRA_OF_DEVICE = {"cpu": "cpu"}


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

        Raises:
            ParameterError: the shape is one that the model does not take.
        """
        ...

    def close(self) -> None: ...


def open_engine(
    model: str | Path, device: str = "cpu", threads: int | None = None, connection: Connection | None = None
) -> Engine:
    """Open a YOLO segmentation network; see `open_network`.

    Raises:
        ModelError: also where the network is of another kind.
    """
    from .segmentation import SegmentationEngine

    return SegmentationEngine(open_network(model, device, threads, connection))


def open_network(
    model: str | Path, device: str = "cpu", threads: int | None = None, connection: Connection | None = None
) -> Network:
    """Open a model file on a device, or a network on a server.

    Args:
        model: path of an `.onnx` file, or the address of a model on a Triton server (see `Address`).
        device: "cpu", "cuda" or "cuda:N". The one asked for is used, or there is an error.
        threads: CPU threads for the network, None for as many as this process may use.
        connection: how to talk to a server.

    Raises:
        ModelError: the file is missing or cannot be read, or the server does not have the model.
        DeviceError: the device is not to be had.
        ServerError: the server cannot be reached.
        ParameterError: device or threads are given for a model on a server.
        MissingDependencyError: the library that opens the file is not installed.
    """
    if is_address(model):
        client = open_client(str(model), device, threads, connection)
        from .triton import TritonNetwork

        return TritonNetwork(client)
    path = Path(model)
    if path.suffix not in _BY_SUFFIX:
        known = ", ".join(_BY_SUFFIX)
        advice = "; export it first: fastsam-export onnx" if path.suffix == ".pt" else ""
        raise ModelError(f"{path}: suffix {path.suffix!r}, expected one of {known}{advice}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; check the path, or export one with fastsam-export onnx")
    try:
        module = import_module(f".{_BY_SUFFIX[path.suffix]}", __name__)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF_DEVICE.get(device, "gpu")
        raise MissingDependencyError(f"{path.name}: {error}; run: pip install 'fastsam-deploy[{extra}]'") from error
    network: Network = module.network_from_file(path, device, threads)
    return network


def open_client(
    address: str, device: str = "cpu", threads: int | None = None, connection: Connection | None = None
) -> TritonClient:
    """A connection to a model on a Triton server, whatever the model is.

    Raises:
        See `open_network`.
    """
    if device != "cpu" or threads is not None:
        raise ParameterError(f"{address}: device {device!r}, threads {threads}; the server has its own: leave them out")
    try:
        from .triton_client import TritonClient
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{address}: {error}; run: pip install 'fastsam-deploy[triton]'") from error
    return TritonClient(Address.from_text(address), connection or Connection())
