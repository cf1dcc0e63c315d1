"""ONNX → plan with the builder of TensorRT or of TensorRT for RTX."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...runtime.engines.tensorrt.log import TensorRTLog
from ...runtime.engines.tensorrt.record import ShapeRange
from ...runtime.errors import ParameterError
from ...runtime.system.atomic import write_atomically
from ..errors import ExportError
from .settings import BuildSettings
from .targets import aim_at

_MOST_ERRORS = 5
_GIB = 1 << 30


def plan_from_onnx(
    trt: Any,
    model: bytes,
    name: str,
    profiles: Mapping[str, Sequence[ShapeRange]],
    settings: BuildSettings,
    log: TensorRTLog,
    step: Callable[[str], None] = lambda _: None,
) -> bytes:
    """Parse an ONNX file and build a plan, on the current device, or for the GPUs that the settings name.

    Args:
        trt: module of the library, see `Library.load`.
        model: content of the ONNX file; its types are the precision of the plan.
        name: of the file, for messages.
        profiles: input → its shapes, one range for each profile. Inputs of a fixed shape need none.
        settings: of the builder.
        log: the library's logger.
        step: called with a description of each step.

    Returns:
        Content of the plan file.

    Raises:
        ExportError: TensorRT does not support the model, with the names of the nodes, or cannot build a plan.
        ParameterError: the timing cache is for another GPU or another version of TensorRT.

    Example:
        >>> content = Path("fastsam.onnx").read_bytes()  # doctest: +SKIP
        >>> with device.active():  # doctest: +SKIP
        ...     plan = plan_from_onnx(trt, content, "a.onnx", profiles, BuildSettings(), tensorrt_log(trt))
    """
    mark = log.mark()
    builder = trt.Builder(log)
    # TensorRT 11 has no other networks; 10 must be asked for them.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    step("TensorRT reads the model")
    if not parser.parse(model):
        raise ExportError(
            f"{name}: TensorRT {trt.__version__} does not support it: {_parser_errors(parser, log, mark)}"
        )
    config = builder.create_builder_config()
    _configure(trt, config, settings)
    if any(side < 0 for i in range(network.num_inputs) for side in network.get_input(i).shape):
        for ranges in zip(*profiles.values(), strict=True):
            profile = builder.create_optimization_profile()
            for image_input, shapes in zip(profiles, ranges, strict=True):
                profile.set_shape(image_input, shapes.min, shapes.opt, shapes.max)
            if config.add_optimization_profile(profile) < 0:
                told = ", ".join(map(str, ranges))
                raise ExportError(f"{name}: TensorRT does not accept the shapes {told}: {log.since(mark)}")
    monitor = _progress_class(trt)(step)
    config.progress_monitor = monitor
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise ExportError(f"{name}: TensorRT {trt.__version__} built no plan: {log.since(mark)}")
    if settings.timing_cache is not None:
        write_atomically(settings.timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(built)


def _configure(trt: Any, config: Any, settings: BuildSettings) -> None:
    # The types of the layers are stored in the plan, so that its precision can be checked.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not settings.tf32:
        # TF32 is on by default, and would compute FP32 layers with less precision than requested.
        config.clear_flag(trt.BuilderFlag.TF32)
    if settings.workspace_gib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(settings.workspace_gib * _GIB))
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if settings.optimization_level is not None:
        config.builder_optimization_level = settings.optimization_level
    if settings.timing_cache is not None:
        _use_timing_cache(trt, config, settings.timing_cache)
    if settings.gpus:
        aim_at(trt, config, settings.gpus)


def _use_timing_cache(trt: Any, config: Any, path: Path) -> None:
    try:
        known = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise ParameterError(f"timing cache {path}: cannot be read ({error}); give another file") from error
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        raise ParameterError(
            f"timing cache {path}: TensorRT {trt.__version__} does not accept it on this GPU; expected one of the same "
            "version and GPU model; give another file, which need not exist"
        )


def _parser_errors(parser: Any, log: TensorRTLog, mark: int) -> str:
    errors = []
    for i in range(min(parser.num_errors, _MOST_ERRORS)):
        error = parser.get_error(i)
        where = f"node {error.node()} {error.node_name()!r} ({error.node_operator()})"
        errors.append(f"{where}: {' '.join(error.desc().split())}")
    if parser.num_errors > _MOST_ERRORS:
        errors.append(f"and {parser.num_errors - _MOST_ERRORS} more")
    return "; ".join(errors) or log.since(mark)


@functools.cache
def _progress_class(trt: Any) -> type[Any]:
    """The class of the library's progress monitor that reports steps."""

    class Progress(trt.IProgressMonitor):  # type: ignore[misc]
        """Reports the progress of the build, which takes minutes."""

        def __init__(self, step: Callable[[str], None]) -> None:
            super().__init__()
            self._step = step
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """TensorRT begins a phase."""
            self._steps[phase_name] = num_steps
            self._step(f"TensorRT: {phase_name}")

        def step_complete(self, phase_name: str, step: int) -> bool:
            """TensorRT has completed a step; True: continue."""
            self._step(f"TensorRT: {phase_name}, {step + 1} of {self._steps.get(phase_name, step + 1)}")
            return True

        def phase_finish(self, phase_name: str) -> None:
            """TensorRT has ended a phase."""
            self._steps.pop(phase_name, None)

    return Progress
