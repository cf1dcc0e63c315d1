"""What every new graph gets, whoever made it: names of axes, precision, metadata, and a check. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ...runtime.engines.telemetry import without_telemetry
from ...runtime.spec import METADATA_KEY, ModelSpec
from ...runtime.system.packages import version_of
from .compact import Factors, stored_compactly
from .fp16 import computed_in_fp16

DEFAULT_OPSET = 18
"""The oldest that the exporter based on torch.export writes without conversion. ONNX Runtime's CUDA provider has all of
its kernels."""

AXES = {
    "images": {0: "batch", 2: "height", 3: "width"},
    "output0": {0: "batch", 2: "anchors"},
    "output1": {0: "batch", 2: "mask_height", 3: "mask_width"},
}
"""Input or output → axis → name, where the axis may vary."""

_NEWEST_IR = 10  # what ONNX Runtime 1.18 reads


def finished(
    graph: onnx.ModelProto,
    spec: ModelSpec,
    factors: Factors,
    *,
    simplify: bool,
    compact: bool = False,
    extra: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """A new graph in the precision of the spec, with its metadata, checked.

    Args:
        graph: FP32; it may be changed.
        spec: what the file will say of itself.
        factors: see `stored_compactly`.
        simplify: fold the graph with onnxslim.
        compact: store weights in FP16 where that loses nothing.
        extra: further metadata.

    Raises:
        ExportError: a weight is too large for FP16.

    Example:
        >>> onnx.save(finished(graph, spec, {}, simplify=True), "fastsam.onnx")  # doctest: +SKIP
    """
    channels = (spec.box_values + spec.class_count + spec.mask_dim, spec.mask_dim)
    graph = tidied(graph, channels=channels, dynamic=spec.batch is None, simplify=simplify)
    if spec.precision == "fp16":
        graph = computed_in_fp16(graph)
    elif compact:
        graph = stored_compactly(graph, factors)
    graph = with_metadata(graph, spec, extra or {})
    onnx.checker.check_model(graph, full_check=True)
    return graph


def tidied(model: onnx.ModelProto, *, channels: tuple[int, int], dynamic: bool, simplify: bool) -> onnx.ModelProto:
    """Clean up a new graph: name its axes and remove what describes the machine that made it.

    Args:
        model: changed in place where `simplify` is False.
        channels: lengths of the second axis of output0 and of output1, which the exporters do not always know.
        dynamic: batch, height and width may vary.
        simplify: fold the graph with onnxslim.

    Example:
        >>> ends = [
        ...     onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, 8])
        ...     for name in ("output0", "output1")
        ... ]
        >>> model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], ends))
        >>> model = tidied(model, channels=(37, 32), dynamic=False, simplify=False)
        >>> [tensor.type.tensor_type.shape.dim[1].dim_value for tensor in model.graph.output]
        [37, 32]
    """
    if simplify:
        with without_telemetry():  # onnxslim imports ONNX Runtime when it runs
            import onnxslim

            model = onnxslim.slim(model)
    model = without_traces(model, AXES if dynamic else {})
    for tensor, count in zip(model.graph.output, channels, strict=True):
        tensor.type.tensor_type.shape.dim[1].dim_value = count
    return model


def without_traces(model: onnx.ModelProto, axes: Mapping[str, Mapping[int, str]]) -> onnx.ModelProto:
    """Remove what the exporter writes about itself and the machine, and name the axes that vary.

    Args:
        model: changed in place and returned.
        axes: input or output → axis → name.

    Example:
        >>> model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], []), doc_string="made on my laptop")
        >>> without_traces(model, {}).doc_string
        ''
    """
    graph = model.graph
    # Source paths and stack traces of the exporter, and shapes whose names would no longer match.
    model.doc_string = graph.doc_string = ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for i, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
    for tensor in (*graph.input, *graph.output):
        del tensor.metadata_props[:]
        for axis, name in axes.get(tensor.name, {}).items():
            tensor.type.tensor_type.shape.dim[axis].dim_param = name
    model.ir_version = min(model.ir_version, _NEWEST_IR)
    return model


def with_metadata(model: onnx.ModelProto, spec: ModelSpec, extra: Mapping[str, str]) -> onnx.ModelProto:
    """Write the spec for the runtime, and the keys with which ultralytics opens the file.

    Args:
        model: changed in place and returned.
        spec: of the model.
        extra: further keys.

    Example:
        >>> model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], []))
        >>> entries = {entry.key: entry.value for entry in with_metadata(model, ModelSpec(), {}).metadata_props}
        >>> entries["task"], entries["imgsz"]
        ('segment', '[1024, 1024]')
    """
    height, width = spec.fixed_hw or (spec.imgsz, spec.imgsz)
    batch = spec.batch or 1
    arguments = {"batch": batch, "half": False, "dynamic": spec.batch is None, "simplify": True, "nms": False}
    entries = {
        METADATA_KEY: spec.to_json(),
        "description": "FastSAM-style segmentation network, exported by fastsam-deploy",
        "version": spec.tools.get("ultralytics", ""),
        # Other programs would take the distributions for classes: they are to stop at the name of the task.
        "task": "segment" if spec.layout == "raw" else f"segment, {spec.layout}",
        "stride": str(spec.stride),
        "batch": str(batch),
        "imgsz": str([height, width]),
        "names": str(dict(enumerate(spec.class_names))),
        "args": str(arguments),
        "channels": "3",
        "end2end": "False",
        **extra,
    }
    onnx.helper.set_model_props(model, entries)
    return model


def tool_versions(*names: str) -> dict[str, str]:
    """Name → version of this package and of every other tool that shapes the file.

    Example:
        >>> sorted(tool_versions("onnx"))
        ['fastsam-deploy', 'onnx']
    """
    return {name: version for name in ("fastsam-deploy", *names) if (version := version_of(name))}
