"""ONNX Runtime: `.onnx` on the CPU or on CUDA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...errors import DeviceError, ModelError, ParameterError, one_onnx_runtime
from ...settings import EngineSettings
from ...system.cpu import usable_cpus
from ...system.scratch import scratch_folder
from ..model_cache import ModelCache, Prepared
from ..reopening import reopening
from ..telemetry import without_telemetry
from .provider import CPU, CUDA, checked_precision, cuda_options, preload_cuda, refuse_overflow
from .sessions import Sessions
from .tensors import tensor_infos

with without_telemetry():
    import onnxruntime as ort


class OnnxRuntimeNetwork:
    """An ONNX Runtime session: a `Network`. `run` may be called from many threads at once."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        """
        Raises:
            DeviceError: the device or the precision is not to be had. ModelError: ONNX Runtime cannot open the file.
        """
        device, threads = settings.device, settings.threads
        provider = _provider(settings)

        def opening(settings: EngineSettings) -> Callable[[], ort.InferenceSession]:
            return reopening(path, settings, lambda path, settings: _session(path, settings, provider)[0])

        reopen, open_single = opening(settings), opening(replace(settings, threads=1))
        session, kept = _session(path, settings, provider)
        is_cpu = provider[0] == CPU
        used = threads or usable_cpus()
        self._sessions = Sessions(session, used if is_cpu else 1, reopen, open_single if is_cpu else None)
        active = session.get_providers()[0]
        if active != provider[0]:
            raise DeviceError(
                f"{path.name}: asked for device {device!r} ({provider[0]}), ONNX Runtime chose {active}"
                f"{preload_cuda()}; check the CUDA and cuDNN libraries with `fastsam doctor`, or pass device='cpu'"
            )
        self.name = path.name
        self.device = device
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        self.description: dict[str, Any] = {
            "file": path.name,
            "engine": "onnxruntime",
            "version": ort.__version__,
            "provider": active,
            "threads": used,
            **({"streams": self._sessions.runs_at_once} if is_cpu else {}),
            **({} if kept is None else {"cache": kept}),
        }
        self.inputs = tensor_infos(session.get_inputs())
        self.outputs = tensor_infos(session.get_outputs())
        precision = checked_precision(settings, self.metadata, self.inputs, path.name)
        if is_cpu:
            refuse_overflow(self.metadata, path.name)
        else:
            self.description |= {"precision": precision, "cudnn_search": settings.search or "heuristic"}

    def run(self, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """See `Network.run`."""
        with self._sessions.lend() as (session, options):
            if session is None:
                raise ModelError(f"{self.name}: the engine is closed; open the model again")
            # No I/O binding: arrays go in and out of `run` without a copy already (docs/adr/0009).
            arrays: list[NDArray[Any]] = session.run(list(outputs), dict(feed), options)
        return arrays

    def close(self) -> None:
        """Free the sessions."""
        self._sessions.close()

    def __enter__(self) -> OnnxRuntimeNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def network_from_file(path: Path, settings: EngineSettings) -> OnnxRuntimeNetwork:
    """What `open_network` calls.

    Raises:
        ParameterError: a cache on another device than the CPU.
        DeviceError: the device or the precision is not to be had.
        ModelError: ONNX Runtime cannot open the file.
    """
    if settings.device != "cpu" and settings.cache:
        raise ParameterError(f"{path.name}: cache is {settings.cache!r}; it is for device 'cpu': leave cache out")
    if settings.search is not None and settings.device == "cpu":
        raise ParameterError(f"{path.name}: search is {settings.search!r}; it is for device 'cuda': leave search out")
    if settings.precision in ("bf16", "mixed"):
        raise DeviceError(
            f"{path.name}: precision {settings.precision!r} on ONNX Runtime, which computes in what the file holds; "
            "pass engine='openvino' on a CPU with AMX or AVX-512 BF16, or leave precision out"
        )
    return OnnxRuntimeNetwork(path, settings)


def _provider(settings: EngineSettings) -> tuple[str, dict[str, Any]]:
    device = settings.device
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return CPU, {}
    if kind == "cuda" and (number.isdecimal() or device == "cuda"):
        available = ort.get_available_providers()
        if CUDA not in available:
            raise DeviceError(
                f"device {device!r}: this ONNX Runtime {ort.__version__} has {', '.join(available)}; "
                f"run: {one_onnx_runtime('gpu')}, or pass device='cpu'"
            )
        preload_cuda()
        return CUDA, cuda_options(settings, int(number or 0))
    raise DeviceError(f"device is {device!r}, expected 'cpu', 'cuda' or 'cuda:N'")


def _session(
    path: Path, settings: EngineSettings, provider: tuple[str, dict[str, Any]]
) -> tuple[ort.InferenceSession, str | None]:
    """The session, and what became of the cache (None: not asked for)."""
    threads, cache = settings.threads, settings.cache
    if not cache:
        return _open(str(path), path, provider, _options(threads)), None
    file = ModelCache(path, cache, f"onnxruntime {ort.__version__}", {})
    kept = file.read()
    if kept is not None:
        options = _options(threads)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return _open(kept.content, path, provider, options), f"read: {file.path}"
    with ExitStack() as stack:
        options = _options(threads)
        try:
            folder = stack.enter_context(scratch_folder())
        except OSError as error:  # no folder for temporary files, or none that can be written to
            return _open(str(path), path, provider, options), f"not written: {error}"
        options.optimized_model_filepath = str(folder / "optimised.onnx")
        session = _open(str(path), path, provider, options)
        return session, file.write(Prepared(Path(options.optimized_model_filepath).read_bytes()))


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that go on spinning after a run take a processor from the masks' matrix product: on two cores it took
    # 5 to 17 ms with spinning and 3.5 without, and the network itself was no slower (198 against 183 ms).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Without this a missing provider is replaced by the CPU with a warning.
    options.add_session_config_entry("session.disable_fallback", "1")
    return options


def _open(
    model: str | bytes, path: Path, provider: tuple[str, dict[str, Any]], options: ort.SessionOptions
) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(model, options, providers=[provider])
        session.disable_fallback()
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        reason = str(error).splitlines()[0][:300]
        raise ModelError(
            f"{path}: ONNX Runtime {ort.__version__} cannot open it ({reason}); expected an ONNX model; export it again"
        ) from error
    return session
