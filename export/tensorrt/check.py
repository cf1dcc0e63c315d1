"""Does TensorRT for RTX take an ONNX file, of any network? For each GPU, without any of them. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.engines.tensorrt.library import TENSORRT_RTX
from ...runtime.engines.tensorrt.log import tensorrt_log
from ...runtime.engines.tensorrt.record import ShapeRange
from ...runtime.errors import MissingDependencyError, ModelError, ParameterError
from ...runtime.spec import METADATA_KEY, ModelSpec
from ..errors import ExportError
from .layers import LAYERS_IN_LOG, LayerTypes, layer_types, layers_from_log
from .profiles import DEFAULT_MAX_BATCH, profiles_for
from .settings import BuildSettings
from .targets import check_graph, gpus_from_text

if TYPE_CHECKING:
    import onnx

Step = Callable[[str], None]

_SIDE = 640
"""Side of an image that varies, pixels, where neither the file nor the caller says another."""
_LENGTH = 64
"""Of any other dimension that varies."""
_IMAGE_RANK = 4
_MOST_NODES = 5


@dataclass(frozen=True)
class Verdict:
    """What the library does with a file for one GPU.

    Attributes:
        gpu: as in "sm86".
        plan_bytes: size of the plan; None: there is none.
        layers: types of its layers.
        reason: why there is none, with the nodes.

    Example:
        >>> Verdict("sm86", None, None, "no kernel").is_taken
        False
    """

    gpu: str
    plan_bytes: int | None
    layers: LayerTypes | None
    reason: str

    @property
    def is_taken(self) -> bool:
        """Whether a plan was built."""
        return self.plan_bytes is not None


@dataclass(frozen=True)
class ModelCheck:
    """The result for a file.

    Attributes:
        model: the file.
        version: of the library.
        precision: of the file, from its convolutions.
        shapes: inputs that vary, and the shapes that they were checked for.
        verdicts: one for each GPU.

    Example:
        >>> all(verdict.is_taken for verdict in check_model(Path("fastsam.onnx")).verdicts)  # doctest: +SKIP
        True
    """

    model: Path
    version: str
    precision: str
    shapes: Mapping[str, ShapeRange]
    verdicts: tuple[Verdict, ...]


def check_model(
    model: Path,
    gpus: str | None = None,
    *,
    precision: str | None = None,
    imgsz: int | None = None,
    step: Step = lambda _: None,
) -> ModelCheck:
    """Build plans of an ONNX file in memory, one for each GPU, and tell what came of it.

    Args:
        model: ONNX file of any network.
        gpus: see `gpus_from_text`; None: all that the library serves.
        precision: "fp16" converts an FP32 file first, as a build does; None: the file as it is.
        imgsz: side of images, if that varies; None: the model's, or 640.
        step: called with a description of each step.

    Raises:
        MissingDependencyError: the library is not installed.
        ModelError: the file cannot be read. ParameterError: a setting is none of those.

    Example:
        >>> check_model(Path("fastsam.onnx"), "sm86").verdicts[0].plan_bytes  # doctest: +SKIP
        17493260
    """
    trt = TENSORRT_RTX.load(extra=TENSORRT_RTX.build_extra)
    graph, held = _read(model, precision)
    profiles = _ranges(graph, imgsz)
    chosen = TENSORRT_RTX.gpus if gpus is None else gpus_from_text(gpus)
    verdicts = tuple(_verdict(trt, model.name, graph, held, profiles, gpu, step) for gpu in chosen)
    return ModelCheck(model, trt.__version__, held, profiles, verdicts)


def _read(model: Path, precision: str | None) -> tuple[onnx.ModelProto, str]:
    """The graph, in the precision that was asked for, and that precision."""
    try:
        import onnx

        from ..graph.fp16 import computed_in_fp16
        from .precision import precision_of
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{model.name}: {error}; run: pip install onnx") from error
    try:
        graph = onnx.load(model)
    except Exception as error:  # of protobuf, which raises many
        raise ModelError(f"{model}: cannot be read as ONNX ({error}); check the path") from error
    held = precision_of(graph)
    if precision in (None, held):
        return graph, held
    if (precision, held) != ("fp16", "fp32"):
        raise ParameterError(
            f"precision is {precision!r} for a check of an {held} file; expected fp16, or leave it out"
        )
    return computed_in_fp16(graph), "fp16"


def _verdict(
    trt: Any,
    name: str,
    graph: onnx.ModelProto,
    precision: str,
    profiles: Mapping[str, ShapeRange],
    gpu: str,
    step: Step,
) -> Verdict:
    from .builder import plan_from_onnx

    step(f"building for {gpu}")
    log, settings = tensorrt_log(trt), BuildSettings(gpus=(gpu,))
    try:
        check_graph(graph, name, TENSORRT_RTX, (gpu,), precision)
        ranges = {tensor: (shapes,) for tensor, shapes in profiles.items()}
        with log.recorded(LAYERS_IN_LOG) as logged:
            plan = plan_from_onnx(trt, graph.SerializeToString(), name, ranges, settings, log)
        return Verdict(gpu, len(plan), layer_types(layers_from_log(logged)), "")
    except (ParameterError, ExportError) as error:
        return Verdict(gpu, None, None, str(error).removeprefix(f"{name}: ") + _unknown_operators(trt, log, graph))


def _unknown_operators(trt: Any, log: Any, graph: onnx.ModelProto) -> str:
    """The nodes whose operators the parser does not have at all; it names only the first node that it refuses."""
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    operators = {node.op_type for node in graph.graph.node}
    unknown = {operator for operator in operators if not parser.supports_operator(operator)}
    nodes = [f"{node.name!r} ({node.op_type})" for node in graph.graph.node if node.op_type in unknown]
    more = f" and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else ""
    return f"; operators that it does not have: {', '.join(nodes[:_MOST_NODES])}{more}" if nodes else ""


def _ranges(graph: onnx.ModelProto, imgsz: int | None) -> dict[str, ShapeRange]:
    """The shapes of the inputs that vary."""
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    spec = ModelSpec.from_json(metadata[METADATA_KEY]) if METADATA_KEY in metadata else None
    weights = {weight.name for weight in graph.graph.initializer}
    ranges = {}
    for value in graph.graph.input:
        dims = value.type.tensor_type.shape.dim
        sides = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
        if value.name in weights or None not in sides:
            continue
        if spec is not None and value.name == spec.input:
            ranges[value.name] = profiles_for(spec, imgsz=imgsz)[0]
        else:
            ranges[value.name] = _range_of(sides, imgsz or _SIDE)
    return ranges


def _range_of(sides: list[int | None], image_side: int) -> ShapeRange:
    """Batches up to 8; any other side at one length."""
    usual = image_side if len(sides) == _IMAGE_RANK else _LENGTH
    rest = tuple(usual if side is None else side for side in sides[1:])
    first = sides[0]
    low, high = (1, DEFAULT_MAX_BATCH) if first is None else (first, first)
    return ShapeRange((low, *rest), (low, *rest), (high, *rest))
