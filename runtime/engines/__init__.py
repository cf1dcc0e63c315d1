"""What runs a network. `open_network` and `open_engine` are the doors; each library is imported behind them."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..connection import Address, Connection, is_address
from ..errors import MissingDependencyError, ModelError, ParameterError
from ..settings import EngineSettings, refuse_settings
from .interface import Engine, Network

if TYPE_CHECKING:
    from .triton.client import TritonClient

_BY_SUFFIX = {".onnx": ("onnxruntime", "openvino"), ".plan": ("tensorrt",), ".engine": ("tensorrt",)}
"""Modules that open a file, the usual one first."""

_MODULE_OF = {"onnxruntime": "onnxruntime.host", "openvino": "openvino", "tensorrt": "tensorrt.network"}

_EXTRAS = {"onnxruntime": "cpu", "openvino": "openvino", "tensorrt": "trt"}


def open_engine(
    model: str | Path, settings: EngineSettings | None = None, connection: Connection | None = None
) -> Engine:
    """Open a YOLO segmentation network; see `open_network`.

    >>> with closing(open_engine("FastSAM-s.onnx", EngineSettings(device="cuda:0"))) as engine:    # doctest: +SKIP
    ...     outputs = engine.run(images)

    Raises:
        ModelError: also where the network is of another kind.
    """
    from .segmentation import SegmentationEngine

    return SegmentationEngine(open_network(model, settings, connection))


def open_network(
    model: str | Path, settings: EngineSettings | None = None, connection: Connection | None = None
) -> Network:
    """Open a model file on a device, or a network on a server.

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
        from .triton.network import TritonNetwork

        return TritonNetwork(client)
    path = Path(model)
    if path.suffix not in _BY_SUFFIX:
        known = ", ".join(_BY_SUFFIX)
        advice = "; export it first: fastsam-export onnx" if path.suffix == ".pt" else ""
        raise ModelError(f"{path}: suffix {path.suffix!r}, expected one of {known}{advice}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; check the path, or export one with fastsam-export onnx")
    name = _engine_for(path, settings)
    try:
        module = import_module(f".{_MODULE_OF[name]}", __name__)
    except ModuleNotFoundError as error:
        extra = "gpu" if settings.device != "cpu" and name == "onnxruntime" else _EXTRAS[name]
        raise MissingDependencyError(f"{path.name}: {error}; run: pip install 'fastsam-deploy[{extra}]'") from error
    if settings.hint == "latency":  # what every engine does that is not told otherwise
        settings = replace(settings, hint=None)
    network: Network = module.network_from_file(path, settings)
    return network


def _engine_for(path: Path, settings: EngineSettings) -> str:
    """Name of the module that opens the file."""
    known, engine = _BY_SUFFIX[path.suffix], settings.engine
    if engine is None:
        installed = (name for name in known if find_spec(name) is not None)
        return next(installed, known[0]) if settings.device == "cpu" else known[0]
    if engine not in known:
        raise ParameterError(f"engine is {engine!r}, expected one of {', '.join(known)} for {path.suffix}, or None")
    return engine


def open_client(
    address: str, settings: EngineSettings | None = None, connection: Connection | None = None
) -> TritonClient:
    """A connection to a model on a Triton server, whatever the model is.

    Args:
        settings: of an engine in this process, which a server refuses.

    Raises:
        See `open_network`.
    """
    refuse_settings(settings or EngineSettings(), address, "the server has its own:")
    try:
        from .triton.client import TritonClient
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{address}: {error}; run: pip install 'fastsam-deploy[triton]'") from error
    return TritonClient(Address.from_text(address), connection or Connection())
