"""The GPUs that TensorRT for RTX builds for, and what it does not build: refused before NVIDIA's code is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...runtime.cuda.driver.device import Device
from ...runtime.engines.tensorrt.library import TENSORRT_RTX, Library, gpu_of
from ...runtime.engines.tensorrt.plan_file import not_served
from ...runtime.errors import DeviceError, MissingDependencyError, ParameterError
from ..errors import ExportError

if TYPE_CHECKING:
    import onnx

    from .settings import BuildSettings

CURRENT = "current"
"""In place of a list: the GPU of this machine."""

TURING = "sm75"
_EXAMPLE = "--gpu sm86,sm89,sm120"


def gpus_from_text(text: str | None, device: int = 0) -> tuple[str, ...]:
    """Read a list of GPUs.

    Args:
        text: names as of NVIDIA's compilers, or compute capabilities: "sm86,8.9"; or `CURRENT`.
        device: number of the GPU that `CURRENT` means.

    Raises:
        ParameterError: the list is empty, a name is unknown, or a GPU is not served; or Turing is in a list with
            others, for which NVIDIA's library would build all of them with Turing's means.
        DeviceError, MissingDependencyError: there is no GPU that `CURRENT` could mean.

    Example:
        >>> gpus_from_text("sm86, 8.9")
        ('sm86', 'sm89')
    """
    names = [name.strip().lower() for name in (text or "").split(",") if name.strip()]
    if not names:
        raise ParameterError(
            f"TensorRT for RTX builds for a list of GPUs, and none is given; add {_EXAMPLE} (some of "
            f"{', '.join(TENSORRT_RTX.gpus)}), or --gpu {CURRENT} on the machine that will run the plan"
        )
    if names == [CURRENT]:
        return (_gpu_here(device),)
    if CURRENT in names:
        raise ParameterError(f"--gpu {text}: {CURRENT!r} stands alone; name that GPU instead, as in {_EXAMPLE}")
    gpus = tuple(dict.fromkeys(map(_named, names)))
    for gpu in gpus:
        if not TENSORRT_RTX.serves(gpu):
            raise ParameterError(f"--gpu {text}: {not_served(TENSORRT_RTX, gpu)}")
    if TURING in gpus and len(gpus) > 1:
        others = ",".join(gpu for gpu in gpus if gpu != TURING)
        raise ParameterError(
            f"--gpu {text}: {TURING} in a list limits all other GPUs to what it can do; build two files: --gpu "
            f"{TURING}, and --gpu {others}"
        )
    return gpus


def _named(name: str) -> str:
    digits = name.removeprefix("sm").removeprefix("_").replace(".", "")
    if not digits.isdecimal():
        raise ParameterError(f"GPU is {name!r}, expected as in sm86 or 8.6: one of {', '.join(TENSORRT_RTX.gpus)}")
    return f"sm{digits}"


def _gpu_here(device: int) -> str:
    try:
        opened = Device.open(device)
    except (DeviceError, MissingDependencyError) as error:
        raise type(error)(
            f"--gpu {CURRENT}: {error}; or name the GPUs, for which none is needed: {_EXAMPLE}"
        ) from error
    gpu = gpu_of((opened.compute_capability[0], opened.compute_capability[1]))
    if not TENSORRT_RTX.serves(gpu):
        raise DeviceError(f"--gpu {CURRENT}: {not_served(TENSORRT_RTX, gpu, opened.name)}")
    return gpu


def aim_at(trt: Any, config: Any, gpus: tuple[str, ...]) -> None:
    """Let a builder's configuration build for GPUs, so that runs on them can be captured into CUDA graphs.

    Args:
        trt: module of TensorRT for RTX.
        config: of its builder.
        gpus: from `gpus_from_text`.

    Raises:
        ExportError: this version of the library does not know one of them.

    Example:
        >>> aim_at(trt, builder.create_builder_config(), ("sm86", "sm120"))  # doctest: +SKIP
    """
    config.num_compute_capabilities = len(gpus)
    for i, gpu in enumerate(gpus):
        known = getattr(trt.ComputeCapability, gpu.upper(), None)
        if known is None or not config.set_compute_capability(known, i):
            raise ExportError(f"TensorRT for RTX {trt.__version__} does not build for {gpu}; leave it out of --gpu")
    # Memory that the library takes by itself while running could not be captured.
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


def check_settings(library: Library, settings: BuildSettings) -> None:
    """Refuse settings that a library does not have.

    Raises:
        ParameterError: with what to do instead.

    Example:
        >>> check_settings(TENSORRT_RTX, BuildSettings(gpus=("sm86",)))  # doctest: +SKIP
    """
    if not library.compiles_late:
        if settings.gpus:
            raise ParameterError(
                f"--gpu {','.join(settings.gpus)}: TensorRT builds for the GPU of this machine only; leave --gpu "
                "out, or add --rtx"
            )
        return
    reasons = {
        "--timing-cache": (settings.timing_cache is not None, "nothing is timed in such a build, which takes seconds"),
        "--version-compatible": (settings.version_compatible, "its plans run with the version that built them"),
        "--hardware-compatible": (
            settings.hardware_compatible,
            f"its plans are for the GPUs that you name ({_EXAMPLE})",
        ),
    }
    for option, (given, reason) in reasons.items():
        if given:
            raise ParameterError(f"{option} with --rtx: {library.name} has no such setting, as {reason}; leave it out")


def check_graph(graph: onnx.ModelProto, name: str, library: Library, gpus: tuple[str, ...], precision: str) -> None:
    """Refuse a graph that a library does not build, with the reason.

    Args:
        graph: as it will be given to the library.
        name: of its file.
        gpus: that it is built for, with TensorRT for RTX.
        precision: of the graph.

    Raises:
        ParameterError: it is INT8 for processors, which neither library takes; or, with TensorRT for RTX, has NMS
            inside, or needs what Turing does not have there.

    Example:
        >>> check_graph(graph, "a.onnx", TENSORRT_RTX, ("sm86",), "fp16")  # doctest: +SKIP
    """
    if _quantized_for_processors(graph):
        raise ParameterError(
            f"{name}: is quantized for processors (with zero points or INT32 biases), which {library.name} does "
            "not take; quantize the FP32 file for TensorRT: fastsam-export quantize, without --target cpu"
        )
    if not library.compiles_late:
        return
    if any(node.op_type == "NonMaxSuppression" for node in graph.graph.node):
        raise ParameterError(
            f"{name}: has NMS inside, for which {library.name} has no kernel; export it again without --nms: the "
            "runtime does the NMS on the GPU"
        )
    if precision == "int8" and TURING in gpus:
        raise ParameterError(
            f"{name}: INT8 for {TURING}, where {library.name} computes no convolution in INT8, and does not say "
            "so; build FP16 of the FP32 file for it: --precision fp16"
        )
    product = _fp32_product(graph) if TURING in gpus and precision == "fp32" else None
    if product is not None:
        raise ParameterError(
            f"{name}: has FP32 matrix products ({product}), for which {library.name} has no kernel on {TURING}; "
            "make the file in FP16 (--half of fastsam-export onnx and clip)"
        )


def _fp32_product(graph: onnx.ModelProto) -> str | None:
    """Name of a matrix product in FP32."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(graph).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    for node in inferred.node:
        if node.op_type in ("MatMul", "Gemm") and types.get(node.output[0]) == onnx.TensorProto.FLOAT:
            return str(node.name or node.output[0])
    return None


def _quantized_for_processors(graph: onnx.ModelProto) -> bool:
    """Zero points that are not 0, or quantized biases. Both are right in ONNX Runtime alone."""
    import numpy as np
    import onnx

    weights = {weight.name: weight for weight in graph.graph.initializer}
    for node in graph.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        first = weights.get(node.input[0])
        if node.op_type == "DequantizeLinear" and first is not None and first.data_type == onnx.TensorProto.INT32:
            return True
        zero = weights.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and np.any(onnx.numpy_helper.to_array(zero)):
            return True
    return False
