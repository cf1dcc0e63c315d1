"""Networks that run on device pointers, for the pipeline that stays on the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import MissingDependencyError, ModelError
from ..spec import TensorInfo

if TYPE_CHECKING:
    from ..cuda.driver.device import Device

Shape = tuple[int, ...]

_BY_SUFFIX = {".plan": "tensorrt.network", ".engine": "tensorrt.network", ".onnx": "onnxruntime.device"}
_EXTRA_OF_MODULE = {"tensorrt.network": "trt", "onnxruntime.device": "gpu,cuda"}


class DeviceNetwork(Protocol):
    """A network whose inputs and outputs lie on a CUDA device. Calls wait for each other. `close` may come twice."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        ...

    @property
    def device(self) -> str:
        """What it runs on: "cuda:0", …"""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """Library, version and settings in use, for reports."""
        ...

    @property
    def cuda_device(self) -> Device: ...

    @property
    def capturable(self) -> bool:
        """Whether `enqueue` may be captured into a CUDA graph, once it has run for these shapes outside of one."""
        ...

    def largest_batch(self, input_hw: tuple[int, int]) -> int | None:
        """Images of this input size (H, W) that it takes at once; None: any number."""
        ...

    def output_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the outputs for these shapes of the inputs.

        Raises:
            ParameterError: the network does not take them.
        """
        ...

    def enqueue(self, pointers: Mapping[str, int], inputs: Mapping[str, Shape], stream: int) -> None:
        """Put one run on a stream and return.

        Args:
            pointers: input or output → address on the device, of the whole tensor in its own dtype.
            inputs: input → shape.
            stream: handle; always the same one.

        Raises:
            ParameterError: the network does not take the shapes.
        """
        ...

    def clone(self) -> DeviceNetwork:
        """One that runs beside this, on a stream of its own."""
        ...

    def close(self) -> None: ...


def open_device_network(path: str | Path, device: str = "cuda") -> DeviceNetwork:
    """Open a model file for device pointers.

    Args:
        path: `.plan` or `.engine` for TensorRT, `.onnx` for ONNX Runtime's CUDA provider.
        device: "cuda" or "cuda:N".

    Raises:
        ModelError: the file is missing, cannot be read or does not run here.
        DeviceError: no such device.
        MissingDependencyError: a library is not installed.
    """
    path = Path(path)
    if path.suffix not in _BY_SUFFIX:
        advice = "; export it first: fastsam-export onnx" if path.suffix == ".pt" else ""
        raise ModelError(f"{path}: suffix {path.suffix!r}, expected one of {', '.join(_BY_SUFFIX)}{advice}")
    if not path.is_file():
        raise ModelError(f"{path}: no such file; check the path, or build one with fastsam-export engine")
    name = _BY_SUFFIX[path.suffix]
    try:
        module = import_module(f".{name}", __package__)
    except ModuleNotFoundError as error:
        extra = _EXTRA_OF_MODULE[name]
        raise MissingDependencyError(f"{path.name}: {error}; run: pip install 'fastsam-deploy[{extra}]'") from error
    network: DeviceNetwork = module.device_network_from_file(path, device)
    return network
