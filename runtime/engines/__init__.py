"""What runs the network. `open_engine` is the door; each engine's library is imported behind it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from ..errors import MissingDependencyError, ModelError
from ..spec import ModelSpec

_BY_SUFFIX = {".onnx": "onnxruntime"}
_EXTRA_OF_DEVICE = {"cpu": "cpu"}


class Engine(Protocol):
    """A network that is ready to run. Thread-safe. Use as a context manager, or call `close`, twice if you like."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def device(self) -> str:
        """What it runs on, as asked for: "cpu", "cuda:0", …"""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """Library, version and settings in use, for reports."""
        ...

    def run(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """(b, 3, H, W) float32 RGB in [0, 1] → {"detections": …, "prototypes": …}, arrays of the caller's own.

        Raises:
            ParameterError: the shape is one that the model does not take.
        """
        ...

    def close(self) -> None: ...


def open_engine(model: str | Path, device: str = "cpu", threads: int | None = None) -> Engine:
    """Open a model file on a device.

    Args:
        model: path of an `.onnx` file.
        device: "cpu", "cuda" or "cuda:N". The one asked for is used, or there is an error.
        threads: CPU threads for the network, None for as many as this process may use.

    Raises:
        ModelError: the file is missing or is no network of this kind.
        DeviceError: the device is not to be had.
        MissingDependencyError: the library that opens the file is not installed.
    """
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
    engine: Engine = module.engine_from_file(path, device, threads)
    return engine
