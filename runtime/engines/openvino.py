"""OpenVINO: `.onnx` on the CPU. The same file as ONNX Runtime reads; BF16 where the processor computes in it."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceError, ModelError, ParameterError
from ..network import TensorInfo
from ..settings import HINTS, EngineSettings
from ..spec import METADATA_KEY, ModelSpec
from ..system.cpu import adds_bytes_in_16_bits, name_and_flags, usable_cpus
from ..system.fork import ForkGate, PerProcess
from .model_cache import ModelCache, Prepared
from .telemetry import without_telemetry

with without_telemetry():
    import openvino as ov
from .openvino_mixed import with_fp32_layers
from .reopening import reopening

_RUNS = ForkGate(settle_s=0.05)
"""Runs, their requests, and compilations. A child that is forked meanwhile waits for ever when it compiles a model.
TBB's threads hold locks for a moment longer: without the pause 7 of 64 children hung, with it none of 96.
"""

_TYPES = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "mixed": ov.Type.bf16, "fp16": ov.Type.f16}
_SEVEN_BITS = ("for cpu", "for openvino")
_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class OpenVinoNetwork:
    """A model compiled by OpenVINO: a `Network`. `run` may be called from many threads at once.

    Sides that vary stay open: one compiled model takes every shape, the first run of a new one costs a little more.
    Calls beyond the `streams` of `description` wait for each other.
    """

    def __init__(
        self,
        path: Path,
        settings: EngineSettings,
    ) -> None:
        """
        Raises:
            ParameterError: OpenVINO knows no such precision.
            DeviceError: the processor does not compute in that precision.
        """
        precision = settings.precision
        self.name = path.name
        self.device = "cpu"
        core = ov.Core()
        reopen = reopening(path, settings, lambda path, settings: _Compiled(_compiled(ov.Core(), path, settings)[0]))
        with _RUNS:
            compiled, self.metadata, kept = _compiled(core, path, settings)
        computed = _name_of_type(compiled.get_property("INFERENCE_PRECISION_HINT"))
        if (precision, computed) == ("mixed", "bf16"):
            computed = "mixed"
        if precision not in (None, computed):
            # OpenVINO takes the hint and computes in another precision.
            raise DeviceError(
                f"{path.name}: asked for precision {precision!r}, this processor ({_full_name(core)}) computes in "
                f"{computed!r}; pass precision={computed!r}, or leave it out"
            )
        self.description: dict[str, Any] = {
            "file": path.name,
            "engine": "openvino",
            "version": ov.get_version().partition("-")[0],
            "precision": computed,
            "hint": settings.hint or HINTS[0],
            "streams": int(compiled.get_property("NUM_STREAMS")),
            "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
            **({} if kept is None else {"cache": kept}),
        }
        self.inputs = tuple(map(_info, compiled.inputs))
        self.outputs = tuple(map(_info, compiled.outputs))
        self._compiled: PerProcess[_Compiled] = PerProcess(_Compiled(compiled), reopen)

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        compiled = self._compiled.get()
        if compiled is None:
            raise ModelError(f"{self.name}: the engine is closed; open the model again")
        try:
            # The input is read where it lies. The outputs are copied (1 ms of 9 MB): the request's own memory is
            # written again by its next run.
            with _RUNS:
                request = compiled.lend()  # in here too: it may make one, which takes locks that a child would wait for
                results = request.infer(dict(feed), share_inputs=True, share_outputs=False)
            arrays: list[NDArray[Any]] = [results[name] for name in outputs]
        except RuntimeError as error:  # the only kind that OpenVINO raises
            raise ModelError(f"{self.name}: OpenVINO failed to run it: {_reason(error)}") from error
        compiled.take_back(request)
        return arrays

    def close(self) -> None:
        """Free the model; runs that are under way end first in their own threads."""
        self._compiled.take()

    def __enter__(self) -> OpenVinoNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Compiled:
    """A compiled model and its idle requests: as many as runs were ever under way at once."""

    def __init__(self, model: ov.CompiledModel) -> None:
        self._model = model
        self._idle: list[ov.InferRequest] = []
        self._lock = threading.Lock()

    def lend(self) -> ov.InferRequest:
        """A request for one thread at a time."""
        with self._lock:
            return self._idle.pop() if self._idle else self._model.create_infer_request()

    def take_back(self, request: ov.InferRequest) -> None:
        with self._lock:
            self._idle.append(request)


def network_from_file(path: Path, settings: EngineSettings) -> OpenVinoNetwork:
    """What `open_network` calls."""
    if settings.device != "cpu":
        raise DeviceError(
            f"{path.name}: device {settings.device!r} with engine 'openvino', which is for device 'cpu' here; "
            "pass device='cpu', or leave engine out"
        )
    return OpenVinoNetwork(path, settings)


def probe() -> str:
    """The library, for `fastsam doctor`."""
    return f"devices {', '.join(ov.Core().available_devices)}; the engine uses CPU"


def _properties(settings: EngineSettings) -> dict[str, Any]:
    """OpenVINO's names and values for the settings."""
    precision = settings.precision
    if precision is not None and precision not in _TYPES:
        raise ParameterError(f"precision is {precision!r}, expected one of {', '.join(_TYPES)} for OpenVINO")
    return {
        "PERFORMANCE_HINT": (settings.hint or HINTS[0]).upper(),
        "INFERENCE_NUM_THREADS": settings.threads or usable_cpus(),
        # Pinned, the threads of several processes share the first processors and leave the others idle; on a machine
        # of our own it gained nothing (docs/adr/0009).
        "ENABLE_CPU_PINNING": False,
        **({} if precision is None else {"INFERENCE_PRECISION_HINT": _TYPES[precision]}),
    }


def _compiled(
    core: ov.Core, path: Path, settings: EngineSettings
) -> tuple[ov.CompiledModel, Mapping[str, str], str | None]:
    """The model, its metadata, and what became of the cache (None: not asked for)."""
    if _RUNS.is_broken:
        raise ModelError(
            f"{path}: OpenVINO does not work in this process, which was forked while another thread was using it; "
            "start workers before, or with the method 'spawn'"
        )
    properties, cache = _properties(settings), settings.cache
    try:
        if not cache:
            model, metadata = _read(core, path, settings.precision)
            return core.compile_model(model, "CPU", properties), metadata, None
        # OpenVINO's own cache is keyed by path and time of the file; ours by content, processor and version.
        keys = {**properties, **({"layers": "fp32 at the ends"} if settings.precision == "mixed" else {})}
        file = ModelCache(path, cache, f"openvino {ov.get_version()}", {k: str(v) for k, v in keys.items()})
        kept = file.read()
        if kept is not None:
            compiled = core.import_model(io.BytesIO(kept.content), "CPU", properties)
            return compiled, kept.metadata, f"read: {file.path}"
        model, metadata = _read(core, path, settings.precision)
        compiled = core.compile_model(model, "CPU", properties)
        content = io.BytesIO()
        compiled.export_model(content)  # what it returns differs between versions
        return compiled, metadata, file.write(Prepared(content.getvalue(), metadata))
    except RuntimeError as error:  # the only kind that OpenVINO raises
        raise ModelError(
            f"{path}: OpenVINO {ov.get_version()} cannot open it ({_reason(error)}); expected an ONNX model; "
            "export it again"
        ) from error


def _read(core: ov.Core, path: Path, precision: str | None) -> tuple[ov.Model, dict[str, str]]:
    """The model and its metadata.

    Raises:
        ModelError: it is an INT8 file that OpenVINO would compute wrongly on this processor.
    """
    model = core.read_model(path)
    metadata = _metadata(model)
    rounds = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
    # Sums of two 8-bit products overflow there: scores were off by 0.41 (docs/adr/0011).
    narrow = adds_bytes_in_16_bits(name_and_flags()[1])
    if rounds and narrow and not _has_seven_bits(metadata, path.name):
        raise ModelError(
            f"{path}: an INT8 file with 8-bit weights, which overflow in OpenVINO on a processor without VNNI; "
            "expected 7-bit ones: fastsam-export quantize --target openvino; or pass engine='onnxruntime'"
        )
    if precision == "mixed":
        try:
            model = with_fp32_layers(core, model)
        except OSError as error:
            raise ModelError(
                f"{path}: precision 'mixed' needs a temporary file: {error}; pass precision='bf16'"
            ) from error
    return model, metadata


def _has_seven_bits(metadata: Mapping[str, str], source: str) -> bool:
    if METADATA_KEY not in metadata:
        return False
    return ModelSpec.from_json(metadata[METADATA_KEY], source).tools.get("int8", "").startswith(_SEVEN_BITS)


def _metadata(model: ov.Model) -> dict[str, str]:
    """The ONNX file's metadata_props."""
    if not model.has_rt_info("framework"):
        return {}
    properties = model.get_rt_info("framework").value
    return {str(name): str(value) for name, value in properties.items()} if isinstance(properties, dict) else {}


def _info(port: ov.ConstOutput) -> TensorInfo:
    shape = tuple(None if side.is_dynamic else int(side.get_length()) for side in port.partial_shape)
    return TensorInfo(port.any_name, np.dtype(port.element_type.to_dtype()).name, shape)


def _name_of_type(kind: ov.Type) -> str:
    name = str(kind.get_type_name())
    return _PRECISIONS.get(name, name)


def _full_name(core: ov.Core) -> str:
    return str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip()


def _reason(error: RuntimeError) -> str:
    """The first line that says something: OpenVINO begins with places in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [""])[0][:300]
