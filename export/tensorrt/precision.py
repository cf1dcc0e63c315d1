"""The ONNX file for TensorRT: its types are the precision of the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from ...runtime.errors import ParameterError
from ...runtime.spec import METADATA_KEY, ModelSpec
from ...runtime.system.scratch import scratch_folder
from ..graph.fp16 import computed_in_fp16

PRECISIONS = ("fp32", "fp16", "int8")


def precision_of(model: onnx.ModelProto) -> str:
    """Precision of a graph, from the types of its convolutions: "int8" where some are quantized, "fp16" or "fp32".

    Example:
        >>> precision_of(onnx.load("fastsam.onnx"))  # doctest: +SKIP
        'fp32'
    """
    kinds = convolution_kinds(model)
    return "int8" if "int8" in kinds else "fp16" if "fp16" in kinds else "fp32"


def convolution_share(model: onnx.ModelProto, precision: str) -> float:
    """Share of the convolutions of a graph that compute in this precision, [0, 1].

    Example:
        >>> convolution_share(onnx.load("fastsam.onnx"), "fp32")  # doctest: +SKIP
        1.0
    """
    kinds = convolution_kinds(model)
    return kinds.count(precision) / len(kinds) if kinds else 0.0


def check_asked(precision: str, name: str, asked: str | None, calibration: Path | None) -> str:
    """Choose the precision of the plan: the requested one, or that of the file.

    Args:
        precision: of the file.
        name: of the file, for messages.
        asked: the requested precision; None: that of the file.
        calibration: folder of photographs.

    Raises:
        ParameterError: the requested precision is unknown, or the file cannot be converted to it.

    Example:
        >>> check_asked("fp32", "fastsam.onnx", "fp16", None)
        'fp16'
    """
    if asked is not None and asked not in PRECISIONS:
        raise ParameterError(f"precision is {asked!r}, expected one of {', '.join(PRECISIONS)}")
    wanted = asked or precision
    if precision not in (wanted, "fp32"):
        raise ParameterError(
            f"{name}: asked for {wanted}, the file computes in {precision}, which cannot be converted back; use the "
            "FP32 file, or leave --precision out"
        )
    if wanted == "int8" and precision == "fp32" and calibration is None:
        raise ParameterError(
            f"{name}: int8 from an FP32 file needs photographs to calibrate on; give --calibration FOLDER"
        )
    if calibration is not None and not (wanted == "int8" and precision == "fp32"):
        raise ParameterError(
            f"calibration is {calibration}, and nothing is quantized ({precision} file, {wanted} plan); leave it out"
        )
    return wanted


def write_in_precision(
    model: Path, spec: ModelSpec, precision: str, target: Path, calibration: Path | None, imgsz: int | None = None
) -> tuple[onnx.ModelProto, ModelSpec]:
    """Write the model in a precision that `check_asked` allowed; a model that has it already is copied.

    Args:
        model: ONNX file.
        spec: of the model.
        precision: "fp32", "fp16" or "int8".
        target: ONNX file to write.
        calibration: folder of photographs, where an FP32 file becomes int8.
        imgsz: longest side to calibrate at; None: the model's default.

    Returns:
        The graph as written, and its spec.

    Raises:
        ExportError: a weight is too large for the precision, or the quantized file is not near enough to the FP32 one.

    Example:
        >>> graph, spec = write_in_precision(model, spec, "fp16", Path("fastsam-fp16.onnx"), None)  # doctest: +SKIP
    """
    graph = onnx.load(model)
    if precision_of(graph) == precision:
        changed = replace(spec, precision=precision)
    elif precision == "fp16":
        changed = replace(spec, precision="fp16")
        graph = _with_spec(computed_in_fp16(graph), changed)
    else:
        graph, changed = _quantized(model, spec, calibration, imgsz), replace(spec, precision="int8")
    onnx.save(graph, target)
    return graph, changed


def _quantized(model: Path, spec: ModelSpec, calibration: Path | None, imgsz: int | None) -> onnx.ModelProto:
    if calibration is None:
        raise ParameterError(f"{model.name}: int8 needs photographs to calibrate on; give --calibration FOLDER")
    from ..quantize.to_int8 import quantize_model

    with scratch_folder() as folder:
        made = quantize_model(model, folder / "int8.onnx", calibration, imgsz=None if spec.fixed_hw else imgsz)
        return onnx.load(made.path)


def _with_spec(graph: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    entries = {entry.key: entry.value for entry in graph.metadata_props}
    onnx.helper.set_model_props(graph, {**entries, METADATA_KEY: spec.to_json()})
    return graph


def convolution_kinds(model: onnx.ModelProto) -> list[str]:
    """Type of each convolution: int8 where both of its inputs are quantized, otherwise the type of its output.

    Example:
        >>> convolution_kinds(onnx.load("fastsam.onnx")).count("fp32")  # doctest: +SKIP
        77
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    maker = {output: node for node in graph.node for output in node.output}
    kinds = []
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        made_by = [maker.get(name) for name in node.input[:2]]
        if all(made is not None and made.op_type == "DequantizeLinear" for made in made_by):
            kinds.append("int8")
        else:
            kinds.append("fp16" if types.get(node.output[0]) == onnx.TensorProto.FLOAT16 else "fp32")
    return kinds
