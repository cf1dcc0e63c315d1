"""What runs a network. `open_network`, `open_engine` and `open_device_network` are the doors to it.

The engines are in `registry`; the library of each is imported when a file is opened with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..connection import Address, Connection, is_address
from ..settings import EngineSettings, refuse_settings
from .failures import GuardedNetwork, as_model_error
from .opening import open_file
from .registry import TRITON, engine_for

if TYPE_CHECKING:
    from ..cuda.network import DeviceNetwork
    from .interface import Engine, Network
    from .triton.client import TritonClient


def open_engine(
    model: str | Path, settings: EngineSettings | None = None, connection: Connection | None = None
) -> Engine:
    """Open a YOLO segmentation network; see `open_network`.

    Example:
        >>> with closing(open_engine("FastSAM-s.onnx", EngineSettings(device="cuda:0"))) as engine:  # doctest: +SKIP
        ...     detections = engine.run(images)["detections"]

    Raises:
        ModelError: also where the network is of another kind.
    """
    from .segmentation import SegmentationEngine

    return SegmentationEngine(open_network(model, settings, connection))


def open_network(
    model: str | Path, settings: EngineSettings | None = None, connection: Connection | None = None
) -> Network:
    """Open a model file on a device, or a network on a server.

    Example:
        >>> network = open_network("clip/text.onnx", EngineSettings(threads=2))  # doctest: +SKIP
        >>> (features,) = network.run({"tokens": tokens}, ["features"])  # doctest: +SKIP

    Args:
        model: path of an `.onnx` file or of a TensorRT plan (`.plan`, or ultralytics' `.engine`), or the address of a
            model on a Triton server (see `Address`).
        settings: of the engine; None for the default ones. A server takes none.
        connection: how to talk to a server.

    Raises:
        ModelError: the file is missing or cannot be read, or the server does not have the model.
        DeviceError: the device or the precision is not to be had.
        ServerError: the server cannot be reached.
        ParameterError: a setting that the engine does not have; any of them, for a server.
        MissingDependencyError: the library that opens the file is not installed.
    """
    settings = settings or EngineSettings()
    if is_address(model):
        client = open_client(str(model), settings, connection)
        return network_on_server(client)
    path = Path(model)
    return open_file(path, tried(path, settings))


def tried(path: Path, settings: EngineSettings, imgsz: int | None = None) -> EngineSettings:
    """The settings to open a file with, after it was tried in a process with limits if they say so (`try_first`).

    Args:
        imgsz: side of the input that it is run on, pixels; None: that of the model.

    Raises:
        See `open_network`; ModelError also where a limit is exceeded.

    Example:
        >>> tried(Path("FastSAM-s.onnx"), EngineSettings()) == EngineSettings()
        True
    """
    if not settings.try_first:
        return settings
    from .trial import try_file

    return try_file(path, settings, imgsz)


def open_device_network(path: str | Path, settings: EngineSettings | None = None) -> DeviceNetwork:
    """Open a model file for device pointers.

    Example:
        >>> network = open_device_network("FastSAM-s.plan", EngineSettings("cuda:1"))  # doctest: +SKIP

    Args:
        path: `.plan` or `.engine` for TensorRT, `.onnx` for ONNX Runtime's CUDA provider.
        settings: None for device "cuda".

    Raises:
        ModelError: the file is missing, cannot be read or does not run here.
        DeviceError: no such device.
        ParameterError: a setting that the engine does not have there.
        MissingDependencyError: a library is not installed.
    """
    path, settings = Path(path), settings or EngineSettings("cuda")
    entry = engine_for(path, settings, pointers=True)
    module = entry.load(path.name, settings.device, pointers=True)
    with as_model_error(str(path), "cannot be opened"):
        network: DeviceNetwork = module.device_network_from_file(path, settings)
    return network


def open_client(
    address: str, settings: EngineSettings | None = None, connection: Connection | None = None
) -> TritonClient:
    """A connection to a model on a Triton server, whatever the model is.

    Args:
        settings: of an engine in this process, which a server refuses.

    Raises:
        See `open_network`.
    """
    refuse_settings(settings or EngineSettings(), address, TRITON.refusal, TRITON.settings)
    client: TritonClient = TRITON.load(address, "cpu").TritonClient(
        Address.from_text(address), connection or Connection()
    )
    return client


def network_on_server(client: TritonClient) -> Network:
    """The network of a client's model; it closes the client, also where it is no network."""
    from .triton.network import TritonNetwork

    try:
        return GuardedNetwork(TritonNetwork(client))
    except BaseException:
        client.close()
        raise
