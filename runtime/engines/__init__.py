"""What runs a network. `open_network` and `open_engine` are the doors; each library is imported behind them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..connection import Address, Connection, is_address
from ..errors import MissingDependencyError, ModelError, ParameterError
from .interface import Engine, Network

if TYPE_CHECKING:
    from .triton.client import TritonClient

_BY_SUFFIX = {".onnx": ("onnxruntime", "openvino"), ".plan": ("tensorrt",), ".engine": ("tensorrt",)}
"""Modules that open a file, the usual one first."""

_MODULE_OF = {"onnxruntime": "onnxruntime.host", "openvino": "openvino", "tensorrt": "tensorrt.network"}

_EXTRAS = {"onnxruntime": "cpu", "openvino": "openvino", "tensorrt": "trt"}


def open_engine(
    model: str | Path,
    device: str = "cpu",
    threads: int | None = None,
    connection: Connection | None = None,
    *,
    engine: str | None = None,
    precision: str | None = None,
    hint: str | None = None,
    cache: bool | str | Path = False,
) -> Engine:
    """Open a YOLO segmentation network; see `open_network`.

    Raises:
        ModelError: also where the network is of another kind.
    """
    from .segmentation import SegmentationEngine

    return SegmentationEngine(
        open_network(model, device, threads, connection, engine=engine, precision=precision, hint=hint, cache=cache)
    )


def open_network(
    model: str | Path,
    device: str = "cpu",
    threads: int | None = None,
    connection: Connection | None = None,
    *,
    engine: str | None = None,
    precision: str | None = None,
    hint: str | None = None,
    cache: bool | str | Path = False,
) -> Network:
    """Open a model file on a device, or a network on a server.

    Args:
        model: path of an `.onnx` file or of a TensorRT plan (`.plan`, or ultralytics' `.engine`), or the address of a
            model on a Triton server (see `Address`).
        device: "cpu", "cuda" or "cuda:N". The one asked for is used, or there is an error.
        threads: CPU threads for the network, None for as many as this process may use.
        connection: how to talk to a server.
        engine: "onnxruntime", or "openvino" (device "cpu"). None: ONNX Runtime; OpenVINO where only that is installed.
        precision: of the arithmetic, "fp32", "fp16" or "bf16": that one is used, or there is an error. None: the
            engine's own. ONNX Runtime computes in what the file holds; OpenVINO in BF16 on processors with AMX or
            AVX-512 BF16, in FP32 on others, and `description["precision"]` says which.
        hint: "latency": all threads work on one run (None: this); "throughput": OpenVINO has several runs under way
            at once on fewer threads each.
        cache: keep the network as the engine has prepared it for this processor, so that it opens sooner the next
            time: True: in a file beside the model, or the path of a folder. `description["cache"]` says what came of
            it; a folder that cannot be written is no error.

    Raises:
        ModelError: the file is missing or cannot be read, or the server does not have the model.
        DeviceError: the device or the precision is not to be had.
        ServerError: the server cannot be reached.
        ParameterError: a setting that the engine does not have; any of them but connection, for a server.
        MissingDependencyError: the library that opens the file is not installed.
    """
    given = {"engine": engine, "precision": precision, "hint": hint, "cache": cache or None}
    if is_address(model):
        client = open_client(str(model), device, threads, connection, **given)
        from .triton.network import TritonNetwork

        return TritonNetwork(client)
    path = Path(model)
    if path.suffix not in _BY_SUFFIX:
        known = ", ".join(_BY_SUFFIX)
        advice = "; export it first: fastsam-export onnx" if path.suffix == ".pt" else ""
        raise ModelError(f"{path}: suffix {path.suffix!r}, expected one of {known}{advice}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; check the path, or export one with fastsam-export onnx")
    if threads is not None and threads < 1:
        raise ParameterError(f"threads is {threads}, expected 1 or more, or None for all")
    name = _engine_for(path, device, engine)
    try:
        module = import_module(f".{_MODULE_OF[name]}", __name__)
    except ModuleNotFoundError as error:
        extra = "gpu" if device != "cpu" and name == "onnxruntime" else _EXTRAS[name]
        raise MissingDependencyError(f"{path.name}: {error}; run: pip install 'fastsam-deploy[{extra}]'") from error
    network: Network = module.network_from_file(path, device, threads, precision=precision, hint=hint, cache=cache)
    return network


def _engine_for(path: Path, device: str, engine: str | None) -> str:
    """Name of the module that opens the file."""
    known = _BY_SUFFIX[path.suffix]
    if engine is None:
        installed = (name for name in known if find_spec(name) is not None)
        return next(installed, known[0]) if device == "cpu" else known[0]
    if engine not in known:
        raise ParameterError(f"engine is {engine!r}, expected one of {', '.join(known)} for {path.suffix}, or None")
    return engine


def open_client(
    address: str,
    device: str = "cpu",
    threads: int | None = None,
    connection: Connection | None = None,
    **refused: object,
) -> TritonClient:
    """A connection to a model on a Triton server, whatever the model is.

    Args:
        refused: settings of engines in this process; None where not given.

    Raises:
        See `open_network`.
    """
    settings = {"device": None if device == "cpu" else device, "threads": threads, **refused}
    given = ", ".join(f"{name} {value!r}" for name, value in settings.items() if value is not None)
    if given:
        raise ParameterError(f"{address}: {given}; the server has its own: leave them out")
    try:
        from .triton.client import TritonClient
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{address}: {error}; run: pip install 'fastsam-deploy[triton]'") from error
    return TritonClient(Address.from_text(address), connection or Connection())
