"""ONNX Runtime's CUDA provider on device pointers: the network of the device pipeline where there is no plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...cuda.driver.device import Device, device_number
from ...cuda.driver.process import UsedByOne, is_forked
from ...cuda.network import Shape
from ...errors import DeviceError, ModelError, ParameterError, one_onnx_runtime
from ...settings import EngineSettings
from ..telemetry import without_telemetry
from .provider import CPU, CUDA, checked_precision, cuda_options, preload_cuda
from .tensors import tensor_infos

with without_telemetry():
    import onnxruntime as ort

_PROVIDERS = {"cuda": CUDA, "cpu": CPU}


class OnnxRuntimeCudaNetwork(UsedByOne):
    """An ONNX file on a CUDA device: a `DeviceNetwork`, and a `Network` for arrays. Calls wait for each other.

    A session of ONNX Runtime works on one stream, which it is told when it is made: `stream`, which lives as long as
    the session. Another stream needs a `clone`, with weights of its own.
    """

    capturable = False
    """It may allocate while it runs, which a capture does not allow."""

    def __init__(
        self, path: Path, device: Device, settings: EngineSettings | None = None, *, memory: str = "cuda"
    ) -> None:
        """
        Args:
            device: that it runs on.
            settings: precision and search; None for the defaults.
            memory: what ONNX Runtime calls the memory that pointers point to. "cpu" is for tests with an emulated
                driver, whose device memory is the host's.

        Raises:
            ModelError: ONNX Runtime cannot open the file. DeviceError: it does not run it on the device, or not in
                the precision.
        """
        super().__init__()
        self._path = path
        self._settings = settings = settings or EngineSettings("cuda")
        self._memory = memory
        self._made: dict[tuple[tuple[str, Shape], ...], dict[str, Shape]] = {}
        self.cuda_device = device
        self.name = path.name
        self.device = f"cuda:{device.number}"
        self._session: ort.InferenceSession | None = None
        with ExitStack() as stack:
            self.stream = stack.enter_context(closing(device.stream()))
            stack.callback(self._let_go)  # before the stream that it works on
            session = self._session = self._new_session()
            self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
            self.inputs = tensor_infos(session.get_inputs())
            self.outputs = tensor_infos(session.get_outputs())
            self._precision = checked_precision(settings, self.metadata, self.inputs, self.name)
            self._owned = stack.pop_all()

    @property
    def description(self) -> dict[str, Any]:
        """See `Network.description`."""
        return {
            "file": self.name,
            "engine": "onnxruntime",
            "version": ort.__version__,
            "provider": _PROVIDERS[self._memory],
            "device": self.cuda_device.name,
            "precision": self._precision,
            "cudnn_search": self._settings.search or "heuristic",
        }

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        with self.lock, self.cuda_device.active():
            arrays: list[NDArray[Any]] = self._opened().run(list(outputs), dict(feed))
            return arrays

    def largest_batch(self, input_hw: tuple[int, int]) -> int | None:
        """See `DeviceNetwork.largest_batch`."""
        return self.inputs[0].shape[0]

    def output_shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the outputs for these shapes of the inputs, which the network is run for once to learn them.

        Raises:
            ParameterError: the network does not take them.
        """
        with self.lock, self.cuda_device.active():
            key = _key(inputs)
            if key not in self._made:
                self._made[key] = self._shapes_of_a_run(inputs)
            return dict(self._made[key])

    def enqueue(self, pointers: Mapping[str, int], inputs: Mapping[str, Shape], stream: int) -> None:
        """Put one run on `stream`; see `TensorRTNetwork.enqueue`.

        Raises:
            ParameterError: it is another stream, an address is missing, or the network does not take the shapes.
        """
        shapes = {**inputs, **self.output_shapes(inputs)}
        with self.lock, self.cuda_device.active():
            session = self._opened()
            if stream != self.stream.handle:
                raise ParameterError(
                    f"{self.name}: stream {stream:#x}, it runs on {self.stream.handle:#x}; use a clone for each"
                )
            missing = [info.name for info in (*self.inputs, *self.outputs) if not pointers.get(info.name, 0)]
            if missing:
                raise ParameterError(f"{self.name}: {', '.join(missing)} has no address; expected one on the device")
            options = ort.RunOptions()
            # It is the caller's stream: who waits for that, waits for this.
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            with self._errors():
                binding = session.io_binding()
                for info in (*self.inputs, *self.outputs):
                    bind = binding.bind_input if info in self.inputs else binding.bind_output
                    kind, shape = np.dtype(info.dtype), list(shapes[info.name])
                    bind(info.name, self._memory, self._memory_number, kind, shape, pointers[info.name])
                session.run_with_iobinding(binding, options)

    def forget(self, inputs: Mapping[str, Shape]) -> None:
        """See `DeviceNetwork.forget`."""
        with self.lock:
            self._made.pop(_key(inputs), None)

    def clone(self) -> OnnxRuntimeCudaNetwork:
        """Another session of the same file, on a stream of its own."""
        return OnnxRuntimeCudaNetwork(self._path, self.cuda_device, self._settings, memory=self._memory)

    def close(self) -> None:
        """Free the session, and its stream, after their work has run."""
        if is_forked():
            return
        with self.lock, self.cuda_device.active():
            self._owned.close()

    def _let_go(self) -> None:
        self.stream.synchronize()
        self._session = None

    def __enter__(self) -> OnnxRuntimeCudaNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self) -> ort.InferenceSession:
        if self._session is None:
            raise ModelError(f"{self.name}: the network is closed; open the model again")
        return self._session

    def _new_session(self) -> ort.InferenceSession:
        provider = _PROVIDERS[self._memory]
        if provider not in ort.get_available_providers():
            raise DeviceError(
                f"{self.name}: this ONNX Runtime {ort.__version__} has {', '.join(ort.get_available_providers())}, "
                f"expected {provider}; run: {one_onnx_runtime('gpu')}"
            )
        settings: dict[str, Any] = {}
        if self._memory == "cuda":
            preload_cuda()
            settings = cuda_options(self._settings, self.cuda_device.number, self.stream.handle)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_fallback", "1")
        try:
            with self.cuda_device.active():
                session = ort.InferenceSession(str(self._path), options, providers=[(provider, settings)])
                session.disable_fallback()
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            reason = str(error).splitlines()[0][:300]
            raise ModelError(
                f"{self._path}: ONNX Runtime {ort.__version__} cannot open it on {self.device} ({reason}); expected an "
                "ONNX model; export it again"
            ) from error
        active = session.get_providers()[0]
        if active != provider:
            raise DeviceError(
                f"{self.name}: asked for {provider}, ONNX Runtime {ort.__version__} chose {active}{preload_cuda()}; "
                "it must be onnxruntime-gpu with CUDA and cuDNN libraries that fit: see `fastsam doctor`"
            )
        return session

    def _shapes_of_a_run(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        names = {info.name for info in self.inputs}
        if set(inputs) != names:
            raise ParameterError(f"{self.name}: inputs {sorted(inputs)}, expected {sorted(names)}")
        session = self._opened()
        binding = session.io_binding()
        for info in self.inputs:
            binding.bind_cpu_input(info.name, np.zeros(inputs[info.name], info.dtype))
        for info in self.outputs:
            binding.bind_output(info.name, self._memory, self._memory_number)
        with self._errors():
            session.run_with_iobinding(binding)
        return {
            info.name: tuple(value.shape()) for info, value in zip(self.outputs, binding.get_outputs(), strict=True)
        }

    @property
    def _memory_number(self) -> int:
        return self.cuda_device.number if self._memory == "cuda" else 0

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # see _new_session
            reason = " ".join(str(error).split())[:300]
            raise ParameterError(f"{self.name}: {reason}; choose imgsz or the batch to fit the model") from error


def device_network_from_file(path: Path, settings: EngineSettings) -> OnnxRuntimeCudaNetwork:
    """What `open_device_network` calls.

    Raises:
        DeviceError: no such device, or this ONNX Runtime has no CUDA provider.
    """
    return OnnxRuntimeCudaNetwork(path, Device.open(device_number(settings.device)), settings)


def _key(inputs: Mapping[str, Shape]) -> tuple[tuple[str, Shape], ...]:
    return tuple(sorted((name, tuple(shape)) for name, shape in inputs.items()))
