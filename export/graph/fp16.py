"""FP16 arithmetic in an ONNX graph. Inputs and outputs stay FP32, so that every caller works with every file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..errors import ExportError


def computed_in_fp16(model: onnx.ModelProto, kept: set[str] | None = None) -> onnx.ModelProto:
    """Convert weights and arithmetic to FP16, but for the first convolution and the decoding of boxes and scores.

    FP16 has a spacing of 0.5 above 512, so boxes in pixels of the input would be off by as much if they were decoded
    in it. And all layers inherit what the first convolution loses. The model is changed in place and returned.

    Args:
        kept: names of the nodes that stay in FP32; None: `nodes_kept_fp32`. No other part gained anything by staying in
            FP32 (docs/adr/0011).

    Raises:
        ExportError: a weight is too large for FP16.

    Example:
        >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy")
        >>> weight = numpy_helper.from_array(np.ones((1, 2), np.float32), "w")
        >>> node = helper.make_node("Mul", ["x", "w"], ["y"], "scaled")
        >>> half = computed_in_fp16(helper.make_model(helper.make_graph([node], "graph", [x], [y], [weight])), set())
        >>> [(node.op_type, node.input[0], node.output[0]) for node in half.graph.node]
        [('Cast', 'x', 'x_fp16'), ('Mul', 'x_fp16', 'y_fp16'), ('Cast', 'y_fp16', 'y')]
    """
    graph = model.graph
    _lift_constants(graph)
    floats = float_tensors(model)
    kept = nodes_kept_fp32(graph) if kept is None else kept
    half = [node for node in graph.node if node.name not in kept]
    made = {output for node in half for output in node.output} & floats
    made_high = {output for node in graph.node if node.name in kept for output in node.output} & floats
    inputs = [tensor.name for tensor in graph.input if tensor.name in floats]
    entering = sorted({name for node in half if node.op_type != "Shape" for name in node.input} & made_high)
    _halve_weights(graph, half)
    for node in half:
        _halve_node(node)
        _rename_inputs(node, {name: f"{name}_fp16" for name in inputs})
        if node.op_type != "Shape":
            _rename_inputs(node, {name: f"{name}_fp16" for name in entering})
    crossing = sorted({name for node in graph.node if node.name in kept for name in node.input} & made)
    for node in graph.node:
        if node.name in kept:
            _rename_inputs(node, {name: f"{name}_fp32" for name in crossing})
    ends = [output.name for output in graph.output if output.name in made]
    for node in graph.node:
        renamed = {name: f"{name}_fp16" for name in ends}
        _rename_inputs(node, renamed)
        node.output[:] = [renamed.get(name, name) for name in node.output]
    casts = {f"{name}_fp16": (name, TensorProto.FLOAT16) for name in (*inputs, *entering)}
    casts |= {f"{name}_fp32": (name, TensorProto.FLOAT) for name in crossing if name not in ends}
    casts |= {name: (f"{name}_fp16", TensorProto.FLOAT) for name in ends}
    _set_nodes(graph, _with_casts(graph.node, casts))
    del graph.value_info[:]
    return model


def rounded_like_fp16(model: onnx.ModelProto, kept: set[str] | None = None) -> onnx.ModelProto:
    """Copy a graph so that it computes in FP32 and rounds every weight and every result to FP16.

    This shows what FP16 costs without a GPU. Where a processor has no FP16 kernel, ONNX Runtime computes in FP32 and
    drops the casts between two such nodes, so that the file of `computed_in_fp16` looks better there than it is.

    Args:
        model: FP32.
        kept: see `computed_in_fp16`.

    Raises:
        ExportError: a weight is too large for FP16.

    Example:
        >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy")
        >>> node = helper.make_node("Neg", ["x"], ["y"], "negated")
        >>> rounded = rounded_like_fp16(helper.make_model(helper.make_graph([node], "graph", [x], [y])), set())
        >>> [node.op_type for node in rounded.graph.node]
        ['Neg', 'Cast', 'Cast']
    """
    result = onnx.ModelProto.FromString(model.SerializeToString())
    graph = result.graph
    _lift_constants(graph)
    floats = float_tensors(result)
    kept = nodes_kept_fp32(graph) if kept is None else kept
    used = {name for node in graph.node if node.name not in kept for name in node.input}
    for weight in graph.initializer:
        if weight.name in used and weight.data_type == TensorProto.FLOAT:
            values = _rounded(numpy_helper.to_array(weight), weight.name).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    nodes: list[NodeProto] = []
    for node in graph.node:
        made = [name for name in node.output if name in floats and node.name not in kept]
        node.output[:] = [f"{name}_exact" if name in made else name for name in node.output]
        nodes.append(node)
        for name in made:
            half = f"{name}_rounded"
            nodes.append(helper.make_node("Cast", [f"{name}_exact"], [half], f"{half}_down", to=TensorProto.FLOAT16))
            nodes.append(helper.make_node("Cast", [half], [name], f"{half}_up", to=TensorProto.FLOAT))
    _set_nodes(graph, nodes)
    return result


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes become initializers, so that each of their uses can have its own type."""
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value" and node.op_type == "Constant"), None)
        if value is None:
            kept.append(node)
        else:
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(value), node.output[0]))
    _set_nodes(graph, kept)


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of the FP32 tensors that are neither weights nor constants.

    Example:
        >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy")
        >>> node = helper.make_node("Neg", ["x"], ["y"], "negated")
        >>> sorted(float_tensors(helper.make_model(helper.make_graph([node], "graph", [x], [y]))))
        ['x', 'y']
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = [*graph.value_info, *graph.output, *graph.input]
    return {tensor.name for tensor in known if tensor.type.tensor_type.elem_type == TensorProto.FLOAT}


def nodes_kept_fp32(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that stay in FP32 in an FP16 file: those up to the first convolution, and the decoding.

    Example:
        >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("x", "d"))
        >>> weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
        >>> convolutions = [helper.make_node("Conv", [a, "w"], [b], f"{a} to {b}") for a, b in ("xa", "ab", "bd")]
        >>> sorted(nodes_kept_fp32(helper.make_graph(convolutions, "graph", [x], [y], [weight])))
        ['x to a']
    """
    return _first_nodes(graph) | decoding_nodes(graph)


def _first_nodes(graph: onnx.GraphProto) -> set[str]:
    """The nodes between the image and the output of the first convolution, as far as they are computed from it."""
    before = {tensor.name for tensor in graph.input}
    names = set()
    for node in graph.node:
        if before.isdisjoint(node.input) or node.op_type == "Shape":
            continue
        names.add(node.name)
        if node.op_type != "Conv":
            before.update(node.output)
    return names


def decoding_nodes(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes between the head's last convolutions and the detections, NMS in the graph included.

    Example:
        >>> decoding_nodes(onnx.load("models/fastsam-demo.onnx").graph)  # doctest: +SKIP
        {'node_softmax', 'node_Concat_471', …}
    """
    maker = {output: node for node in graph.node for output in node.output}
    weights = {weight.name: weight for weight in graph.initializer}
    names: set[str] = set()
    waiting = [output.name for output in graph.output if len(output.type.tensor_type.shape.dim) != 4]  # no prototypes
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in names or node.op_type == "Shape":
            continue
        if node.op_type == "Conv" and not _is_expectation(weights.get(node.input[1])):
            continue
        names.add(node.name)
        waiting.extend(node.input)
    return names


def _is_expectation(weight: TensorProto | None) -> bool:
    """Is this the fixed "convolution" 0, 1, 2 … that turns a box distribution into its mean?"""
    if weight is None or len(weight.dims) != 4 or (weight.dims[0], *weight.dims[2:]) != (1, 1, 1):
        return False
    return bool(np.array_equal(numpy_helper.to_array(weight).ravel(), np.arange(weight.dims[1])))


def _halve_weights(graph: onnx.GraphProto, half: Iterable[NodeProto]) -> None:
    """FP16 copies of the weights that the nodes `half` use; FP32 weights that nothing else uses are replaced."""
    weights = {w.name: w for w in graph.initializer if w.data_type == TensorProto.FLOAT}
    renamed: dict[str, str] = {}
    for node in half:
        for i, name in enumerate(node.input):
            if name in weights and not _stays_fp32(node, i):
                renamed[name] = f"{name}_fp16"
                node.input[i] = f"{name}_fp16"
    used = {name for node in graph.node for name in node.input}
    for name, new in renamed.items():
        halved = numpy_helper.from_array(_rounded(numpy_helper.to_array(weights[name]), name), new)
        if name in used:
            graph.initializer.append(halved)
        else:
            weights[name].CopyFrom(halved)


def _stays_fp32(node: NodeProto, i: int) -> bool:
    return node.op_type == "Resize" and i > 0  # its region and scales are FP32 by definition


def _halve_node(node: NodeProto) -> None:
    """FP32 constants and casts inside a node become FP16."""
    for attribute in node.attribute:
        if attribute.name == "to" and node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(attribute.t)
            attribute.t.CopyFrom(numpy_helper.from_array(_rounded(values, node.name), attribute.t.name))


def _rounded(values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    largest = float(np.abs(values).max(initial=0))
    if not largest <= float(np.finfo(np.float16).max):
        raise ExportError(f"weight {name} reaches {largest:.3g}, FP16 ends at 65504; export in FP32")
    return values.astype(np.float16)


def _rename_inputs(node: NodeProto, renamed: dict[str, str]) -> None:
    node.input[:] = [renamed.get(name, name) for name in node.input]


def _with_casts(nodes: Iterable[NodeProto], casts: dict[str, tuple[str, int]]) -> list[NodeProto]:
    """`nodes` with a Cast for each `target: (source, type)`, right after the node that makes its source."""
    by_source: dict[str, list[NodeProto]] = {}
    for target, (source, kind) in casts.items():
        node = helper.make_node("Cast", [source], [target], f"{target}_cast", to=kind)
        by_source.setdefault(source, []).append(node)
    made_by_nodes = list(nodes)
    first = {output for node in made_by_nodes for output in node.output}
    placed = [cast for source, made in by_source.items() if source not in first for cast in made]
    for node in made_by_nodes:
        placed.append(node)
        placed.extend(cast for output in node.output for cast in by_source.get(output, ()))
    return placed


def _set_nodes(graph: onnx.GraphProto, nodes: Iterable[NodeProto]) -> None:
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
