"""Enlargements that 8-bit operators can compute: one convolution or copy, and moving of pixels.

ONNX Runtime has no 8-bit ConvTranspose, and its 8-bit Resize visits single values. Doubling the sides is the same as
making four pixels of each: by a 1 x 1 convolution to four times as many channels, or by four copies. Both move pixels
in one Transpose of whole rows of channels. No value changes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

_FACTOR = 2


def with_plain_enlargement(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph and replace each doubling of the sides, by ConvTranspose or by the nearest pixel.

    Others, such as by 3 or with overlapping kernels, stay as they are.

    Args:
        model: FP32, from `with_folded_weights`.

    Example:
        >>> plain = with_plain_enlargement(with_folded_weights(onnx.load("fastsam.onnx")))  # doctest: +SKIP
        >>> "ConvTranspose" in {node.op_type for node in plain.graph.node}  # doctest: +SKIP
        False
    """
    result = onnx.ModelProto.FromString(model.SerializeToString())
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    channels = _channels(model)
    nodes: list[NodeProto] = []
    for node in graph.node:
        if _is_doubling_convolution(node, constants):
            nodes += _by_convolution(node, constants, graph)
        elif _is_doubling_resize(node, constants) and channels.get(node.input[0], 0):
            nodes += _by_copies(node, channels[node.input[0]], graph)
        else:
            nodes.append(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return result


def _channels(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor of four axes → its channels; 0 if not known."""
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    shapes = {value.name: value.type.tensor_type.shape.dim for value in known}
    return {name: dims[1].dim_value for name, dims in shapes.items() if len(dims) == 4}


def _is_doubling_convolution(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    if node.op_type != "ConvTranspose" or len(node.input) != 3 or not {*node.input[1:]} <= {*constants}:
        return False
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    zeros = [*given.get("pads", []), *given.get("output_padding", [])]
    plain = not any(zeros) and given.get("group", 1) == 1 and {*given.get("dilations", [1])} == {1}
    sides = [*constants[node.input[1]].dims[2:], *given.get("strides", [])]
    plain &= given.get("auto_pad", b"NOTSET") == b"NOTSET" and "output_shape" not in given
    return plain and sides == [_FACTOR] * 4


def _is_doubling_resize(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool:
    if node.op_type != "Resize" or len(node.input) != 3 or node.input[1] or node.input[2] not in constants:
        return False
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    nearest = (given.get("mode"), given.get("coordinate_transformation_mode"), given.get("nearest_mode"))
    scales = numpy_helper.to_array(constants[node.input[2]]).tolist()
    return nearest == (b"nearest", b"asymmetric", b"floor") and scales == [1, 1, _FACTOR, _FACTOR]


def _by_convolution(node: NodeProto, constants: Mapping[str, TensorProto], graph: onnx.GraphProto) -> list[NodeProto]:
    source, weight, bias = node.input
    values = numpy_helper.to_array(constants[weight])  # (in, out, y, x)
    flat = values.transpose(2, 3, 1, 0).reshape(-1, values.shape[0], 1, 1)
    constants[weight].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(flat), weight))
    repeated = np.tile(numpy_helper.to_array(constants[bias]), _FACTOR**2)
    constants[bias].CopyFrom(numpy_helper.from_array(repeated, bias))
    made = f"{node.name}_four"
    convolution = helper.make_node("Conv", [source, weight, bias], [made], f"{node.name}_conv", kernel_shape=[1, 1])
    return [convolution, *_spread(node, made, values.shape[1], graph)]


def _by_copies(node: NodeProto, channels: int, graph: onnx.GraphProto) -> list[NodeProto]:
    made = f"{node.name}_four"
    copies = helper.make_node("Concat", [node.input[0]] * _FACTOR**2, [made], f"{node.name}_copies", axis=1)
    return [copies, *_spread(node, made, channels, graph)]


def _spread(node: NodeProto, four: str, channels: int, graph: onnx.GraphProto) -> list[NodeProto]:
    """(b, 4 * channels, h, w), where the channels are ordered (y, x, channel) → (b, channels, 2 * h, 2 * w).

    Channels come last meanwhile, as they do in ONNX Runtime's 8-bit convolutions: it then drops the first and the last
    Transpose, and the one in between moves whole rows of channels.
    """
    name = node.name

    def constant(end: str, values: list[int]) -> str:
        array: NDArray[np.int64] = np.array(values, np.int64)
        graph.initializer.append(numpy_helper.from_array(array, f"{name}_{end}"))
        return f"{name}_{end}"

    def add(kind: str, inputs: list[str], end: str, **attributes: object) -> NodeProto:
        return helper.make_node(kind, inputs, [f"{name}_{end}"], f"{name}_{end}_node", **attributes)

    sides = [constant("from", [2]), constant("to", [4])]
    rows = [constant("batch", [0]), f"{name}_doubled", constant("channels", [channels])]
    pairs = constant("pairs", [0, 0, 0, _FACTOR, _FACTOR * channels])
    last = helper.make_node("Transpose", [f"{name}_joined"], [node.output[0]], f"{name}_first", perm=[0, 3, 1, 2])
    return [
        add("Transpose", [four], "last", perm=[0, 2, 3, 1]),
        add("Reshape", [f"{name}_last", pairs], "split"),
        add("Transpose", [f"{name}_split"], "moved", perm=[0, 1, 3, 2, 4]),
        add("Shape", [node.input[0]], "shape"),
        add("Slice", [f"{name}_shape", *sides], "sides"),
        add("Mul", [f"{name}_sides", constant("twice", [_FACTOR, _FACTOR])], "doubled"),
        add("Concat", rows, "goal", axis=0),
        add("Reshape", [f"{name}_moved", f"{name}_goal"], "joined"),
        last,
    ]
