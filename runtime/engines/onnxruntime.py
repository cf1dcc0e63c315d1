"""ONNX Runtime: `.onnx` on the CPU or on CUDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import DeviceError, ModelError, ParameterError
from ..processors import usable_cpus
from ..spec import TensorInfo


class OnnxRuntimeNetwork:
    """An ONNX Runtime session: a `Network`. `run` may be called from many threads at once."""

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        provider = _provider(device)
        self._session: ort.InferenceSession | None = _session(path, provider, threads)
        active = self._session.get_providers()[0]
        if active != provider[0]:
            raise DeviceError(
                f"{path.name}: asked for device {device!r} ({provider[0]}), ONNX Runtime chose {active}; "
                "check the CUDA and cuDNN libraries with `fastsam doctor`, or pass device='cpu'"
            )
        self.name = path.name
        self.device = device
        self.description: dict[str, Any] = {
            "file": path.name,
            "engine": "onnxruntime",
            "version": ort.__version__,
            "provider": active,
            "threads": threads or usable_cpus(),
        }
        self.metadata: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.inputs = _infos(self._session.get_inputs())
        self.outputs = _infos(self._session.get_outputs())

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        if self._session is None:
            raise ModelError(f"{self.name}: the engine is closed; open the model again")
        found: list[NDArray[Any]] = self._session.run(list(outputs), dict(feed))
        return found

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def __enter__(self) -> OnnxRuntimeNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def network_from_file(path: Path, device: str, threads: int | None) -> OnnxRuntimeNetwork:
    """What `open_network` calls."""
    return OnnxRuntimeNetwork(path, device, threads)


def _provider(device: str) -> tuple[str, dict[str, Any]]:
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return "CPUExecutionProvider", {}
    if kind == "cuda" and (number.isdecimal() or device == "cuda"):
        available = ort.get_available_providers()
        if "CUDAExecutionProvider" not in available:
            raise DeviceError(
                f"device {device!r}: this ONNX Runtime {ort.__version__} has {', '.join(available)}; "
                "run: pip uninstall onnxruntime && pip install 'fastsam-deploy[gpu]', or pass device='cpu'"
            )
        return "CUDAExecutionProvider", {"device_id": int(number or 0)}
    raise DeviceError(f"device is {device!r}, expected 'cpu', 'cuda' or 'cuda:N'")


def _session(path: Path, provider: tuple[str, dict[str, Any]], threads: int | None) -> ort.InferenceSession:
    if threads is not None and threads < 1:
        raise ParameterError(f"threads is {threads}, expected 1 or more, or None for all")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that go on spinning after a run take a processor from the masks' matrix product: on two cores it took
    # 5 to 17 ms with spinning and 3.5 without, and the network itself was no slower (198 against 183 ms).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without this a missing provider is replaced by the CPU with a warning.
    options.add_session_config_entry("session.disable_fallback", "1")
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider])
        session.disable_fallback()
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        reason = str(error).splitlines()[0][:300]
        raise ModelError(
            f"{path}: ONNX Runtime {ort.__version__} cannot open it ({reason}); expected an ONNX model; export it again"
        ) from error
    return session


def _infos(tensors: list[Any]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            t.name,
            t.type.removeprefix("tensor(").removesuffix(")"),
            tuple(side if isinstance(side, int) and side > 0 else None for side in t.shape),
        )
        for t in tensors
    )
