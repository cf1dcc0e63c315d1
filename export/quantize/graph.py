"""INT8 in an ONNX graph: which convolutions there are, which stay in floating point, and QDQ nodes around the others.

Standard operators in the file say what is computed in INT8: QuantizeLinear and DequantizeLinear round the input and the
weights of each convolution. A runtime with integer kernels fuses them; any other computes the same rounding in floating
point.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ...runtime.errors import ParameterError
from ..errors import ExportError
from ..graph.fp16 import computed_in_fp16, decoding_nodes
from .integers import joined_ranges, with_rounding
from .placement import Placement, placement_for
from .signed import with_signed_pairs
from .weights import RoundedWeights

TARGETS = ("tensorrt", "cpu", "vnni", "openvino")

WEIGHT_BITS = {"cpu": 7, "vnni": 8, "openvino": 7}
"""Without VNNI, kernels for x86 add two products of 8 bits in 16 bits, which overflows; with 7 bits it does not."""

_HALF_OPSET = 19
"""The first in which QuantizeLinear accepts FP16."""

_STEM_HALVINGS = 2
"""Convolutions at up to a quarter of the input's size are the stem: see docs/adr/0011."""


@dataclass(frozen=True)
class Layer:
    """One convolution that has constant weights.

    Attributes:
        name: name of its weights without ".weight", such as "model.4.m.0.cv1", or of the node if the weights have none.
        node: name of the node.
        group: the block that it belongs to, such as "model.4"; in the head, the branch, such as "model.22.cv2".
        source, result: names of the tensors that it reads and writes.
        ends_head: its output is decoded into detections; rounding it rounds the detections.
        kept: stays in floating point by default: the ends of the head, and the stem.

    Example:
        >>> Layer("model.4.cv1", "/model.4/cv1/Conv", "model.4", "x", "y", ends_head=False, kept=False).group
        'model.4'
    """

    name: str
    node: str
    group: str
    source: str
    result: str
    ends_head: bool
    kept: bool


def with_folded_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph and turn weights that are stored compactly (Cast, Mul) into plain FP32, which can be quantized.

    Example:
        >>> half = numpy_helper.from_array(np.ones(2, np.float16), "half")
        >>> node = helper.make_node("Cast", ["half"], ["weight"], to=TensorProto.FLOAT)
        >>> end = helper.make_tensor_value_info("weight", TensorProto.FLOAT, [2])
        >>> model = with_folded_weights(helper.make_model(helper.make_graph([node], "graph", [], [end], [half])))
        >>> [tensor.name for tensor in model.graph.initializer], len(model.graph.node)
        (['weight'], 0)
    """
    result = onnx.ModelProto.FromString(model.SerializeToString())
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        folded = _folded(node, [constants.get(name) for name in node.input])
        if folded is None:
            nodes.append(NodeProto.FromString(node.SerializeToString()))
        else:
            constants[node.output[0]] = numpy_helper.from_array(np.ascontiguousarray(folded), node.output[0])
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    weights = [TensorProto.FromString(t.SerializeToString()) for name, t in constants.items() if name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    return result


def _folded(node: NodeProto, inputs: Sequence[TensorProto | None]) -> NDArray[np.generic] | None:
    values = [numpy_helper.to_array(tensor) for tensor in inputs if tensor is not None]
    if len(values) != len(node.input) or node.op_type not in ("Cast", "Mul"):
        return None
    if node.op_type == "Mul":
        product: NDArray[np.generic] = values[0] * values[1]
        return product
    kind = next(attribute.i for attribute in node.attribute if attribute.name == "to")
    converted: NDArray[np.generic] = values[0].astype(helper.tensor_dtype_to_np_dtype(kind))
    return converted


def layers_of(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """List the convolutions that can be quantized, in the order of the graph.

    Raises:
        ExportError: there is none.

    Example:
        >>> layers = layers_of(with_folded_weights(onnx.load("fastsam.onnx")))  # doctest: +SKIP
        >>> layers[0].name, layers[0].kept  # doctest: +SKIP
        ('model.0', True)
    """
    graph = model.graph
    tail = decoding_nodes(graph)
    weights = {tensor.name for tensor in graph.initializer}
    convolutions = [n for n in graph.node if n.op_type == "Conv" and n.name not in tail and n.input[1] in weights]
    if not convolutions:
        raise ExportError("the graph has no convolution with constant weights, expected those of a YOLO network")
    into_tail = {name for node in graph.node if node.name in tail for name in node.input}
    names = [_layer_name(node) for node in convolutions]
    head = max((_block(name) for name in names), default=-1)
    layers, halvings = [], 0
    for node, name in zip(convolutions, names, strict=True):
        halvings += any(a.name == "strides" and max(a.ints) > 1 for a in node.attribute)
        ends = node.output[0] in into_tail
        kept = ends or halvings <= _STEM_HALVINGS
        layers.append(Layer(name, node.name, _group(name, head), node.input[0], node.output[0], ends, kept))
    return tuple(layers)


def _layer_name(node: NodeProto) -> str:
    weight: str = node.input[1]
    if not weight.startswith("model.") or not weight.endswith(".weight"):
        return str(node.name)
    return weight.removesuffix(".weight").removesuffix(".conv")


def _block(name: str) -> int:
    """Number of the block: 22 of "model.22.cv2.0"; -1 if the name has none."""
    parts = name.split(".")
    return int(parts[1]) if len(parts) > 2 and parts[1].isdecimal() else -1


def _group(name: str, head: int) -> str:
    return ".".join(name.split(".")[: 3 if _block(name) == head else 2])


def layers_named(layers: Sequence[Layer], patterns: Collection[str]) -> set[str]:
    """Select layers by name.

    Args:
        layers: all of the network.
        patterns: names of layers, nodes, or blocks whose layers are all selected: "model.4", "model.22.cv3.0".

    Returns:
        Names of the layers.

    Raises:
        ParameterError: a pattern names no layer.

    Example:
        >>> layers = [Layer(f"model.4.cv{i}", f"node_{i}", "model.4", "x", "y", False, False) for i in (1, 2)]
        >>> sorted(layers_named(layers, ["model.4"])), layers_named(layers, ["node_2"])
        (['model.4.cv1', 'model.4.cv2'], {'model.4.cv2'})
    """
    selected: set[str] = set()
    for pattern in patterns:
        matching = {
            layer.name
            for layer in layers
            if pattern in (layer.name, layer.node) or layer.name.startswith(pattern + ".")
        }
        if not matching:
            groups = ", ".join(dict.fromkeys(layer.group for layer in layers))
            raise ParameterError(f"--keep {pattern}: the model has no layer of that name; its blocks are {groups}")
        selected |= matching
    return selected


def tensors_to_calibrate(model: onnx.ModelProto, layers: Collection[Layer], target: str) -> set[str]:
    """Names of the tensors whose ranges `with_qdq` needs.

    Example:
        >>> tensors_to_calibrate(plain, layers_of(plain), "tensorrt")  # doctest: +SKIP
        {'images', 'silu', …}
    """
    if target == "tensorrt":
        return {layer.source for layer in layers}
    return set(_placement(model, layers, target).calibrated(model))


def ranges_for_any_part(
    model: onnx.ModelProto, layers: Collection[Layer], target: str, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Ranges of `tensors_to_calibrate` and of all that follow: `with_qdq` can then round any of the layers.

    Example:
        >>> ranges = ranges_for_any_part(plain, layers, "cpu", ranges)  # doctest: +SKIP
        >>> with_qdq(plain, layers[3:], ranges, "cpu")  # doctest: +SKIP
    """
    if target == "tensorrt":
        return dict(ranges)
    return {**joined_ranges(model, _placement(model, layers, target), ranges), **ranges}


def _placement(model: onnx.ModelProto, layers: Collection[Layer], target: str) -> Placement:
    return placement_for(model, {layer.node for layer in layers}, results=target != "openvino")


def with_qdq(
    model: onnx.ModelProto,
    layers: Collection[Layer],
    ranges: Mapping[str, tuple[float, float]],
    target: str,
    *,
    half: bool = False,
    weights: Mapping[str, RoundedWeights] = MappingProxyType({}),
) -> onnx.ModelProto:
    """Copy a graph so that some layers compute in INT8.

    Weights have a scale for each output channel.

    Args:
        model: FP32, from `with_folded_weights`.
        layers: those to quantize.
        ranges: (lowest, highest) of each tensor of `tensors_to_calibrate`.
        target: "tensorrt": signed activations, symmetric about zero; weights are stored in FP32 before their
            QuantizeLinear; each layer has a QDQ pair to itself, and its output is not quantized, so that SiLU sees the
            exact sums. "cpu": unsigned activations; all between two such layers is rounded too, so that ONNX Runtime
            computes it in 8 bits (see `placement_for`); weights have 7 bits (see `WEIGHT_BITS`). "vnni": the same with
            weights of 8 bits. "openvino": unsigned activations, results of layers are not rounded; weights of 7 bits.
        half: what is not INT8 computes in FP16, up to the head (see `computed_in_fp16`); the graph becomes opset 19.
        weights: name of a convolution → its rounded weights, for processors; others are rounded to the nearest.

    Example:
        >>> plain = with_folded_weights(onnx.load("fastsam.onnx"))  # doctest: +SKIP
        >>> chosen = [layer for layer in layers_of(plain) if not layer.kept]  # doctest: +SKIP
        >>> with_qdq(plain, chosen, ranges, "tensorrt")  # doctest: +SKIP
    """
    if target != "tensorrt":
        placement, bits = _placement(model, layers, target), WEIGHT_BITS[target]
        return _standard(with_rounding(model, placement, ranges, weight_bits=bits, weights=weights), 0)
    nodes, sources = [layer.node for layer in layers], {layer.source for layer in layers}
    quantized = with_signed_pairs(model, nodes, sources - {layer.result for layer in layers}, ranges)
    if half:
        quantized = computed_in_fp16(quantized)
    return _standard(quantized, _HALF_OPSET if half else 0)


def _standard(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Set the operator set that the graph needs and drop shapes that no longer fit; the graph is changed in place."""
    del model.graph.value_info[:]
    version = max(opset, *(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", version))
    return model
