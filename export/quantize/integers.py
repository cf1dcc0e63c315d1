"""Rounding written into a graph for processors: unsigned activations, and weights with a scale for each channel."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .placement import Placement
from .weights import RoundedWeights

Range = tuple[float, float]

_MOST_LEVEL = 255
_MOST_BIAS = 2**30
"""Half of what fits into 32 bits: the rest is for the products."""


def scale_and_zero(limits: Range) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of unsigned 8-bit values.

    Args:
        limits: (lowest, highest); widened to include zero, so that zero is exact.

    Example:
        >>> scale, zero = scale_and_zero((-1.0, 4.1))
        >>> round(float(scale), 6), int(zero)
        (0.02, 50)
    """
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = np.float32(max(high - low, 1e-10) / _MOST_LEVEL)
    return scale, np.uint8(np.clip(round(-low / float(scale)), 0, _MOST_LEVEL))


def with_rounding(
    model: onnx.ModelProto,
    placement: Placement,
    ranges: Mapping[str, Range],
    *,
    weight_bits: int,
    weights: Mapping[str, RoundedWeights] = MappingProxyType({}),
) -> onnx.ModelProto:
    """Copy a graph and put QuantizeLinear and DequantizeLinear around what computes in 8 bits.

    What is not in 8 bits reads the unrounded tensor, unless an 8-bit node writes that.

    Args:
        model: FP32, from `with_folded_weights`.
        placement: see `placement_for`.
        ranges: (lowest, highest) of the tensors of `Placement.calibrated`; those of one group are joined.
        weight_bits: 8; or 7 for processors that add two products in 16 bits.
        weights: name of a convolution → its rounded weights; those of others are rounded to the nearest.

    Example:
        >>> with_rounding(plain, placement, ranges, weight_bits=8)  # doctest: +SKIP
    """
    result = onnx.ModelProto.FromString(model.SerializeToString())
    graph = result.graph
    writer = _Writer(graph, joined_ranges(model, placement, ranges), 2 ** (weight_bits - 1) - 1, weights)
    made_in_8_bits = {output for node in graph.node if node.name in placement.nodes for output in node.output}
    nodes = [pair for value in graph.input if value.name in writer.scales for pair in writer.pair(value.name)]
    for original in graph.node:
        node = NodeProto.FromString(original.SerializeToString())
        for i, name in enumerate(original.input):
            if name in writer.scales and (node.name in placement.nodes or name in made_in_8_bits):
                node.input[i] = f"{name}_rounded"
        if node.name in placement.nodes and node.op_type == "Conv":
            nodes += writer.weights(node, original.input[0])
        nodes.append(node)
        nodes += [pair for output in node.output if output in writer.scales for pair in writer.pair(output)]
    used = {name for node in nodes for name in node.input}
    kept = [TensorProto.FromString(t.SerializeToString()) for t in graph.initializer if t.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return result


def joined_ranges(model: onnx.ModelProto, placement: Placement, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges of all tensors of a placement: results of Sigmoid lie from 0 to 1, groups have one range.

    Args:
        model: FP32.
        placement: see `placement_for`.
        ranges: of the tensors of `Placement.calibrated`, or more.

    Example:
        >>> joined_ranges(plain, placement, ranges)["images"]  # doctest: +SKIP
        (0.0, 1.0)
    """
    probabilities = {node.output[0] for node in model.graph.node if node.op_type == "Sigmoid"}
    ranges = {**ranges, **dict.fromkeys(probabilities, (0.0, 1.0))}
    joined: dict[str, Range] = {}
    for group in placement.shared:
        lows, highs = zip(*(ranges[name] for name in group if name in ranges), strict=True)
        joined |= dict.fromkeys(group & placement.tensors, (min(lows), max(highs)))
    return joined


class _Writer:
    """Writes pairs and rounded weights, and their constants into the graph."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        ranges: Mapping[str, Range],
        most_weight: int,
        rounded: Mapping[str, RoundedWeights],
    ) -> None:
        self.scales = {name: scale_and_zero(limits) for name, limits in ranges.items()}
        self._graph = graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._most_weight = most_weight
        self._rounded = rounded
        self._written: set[str] = set()

    def pair(self, name: str) -> list[NodeProto]:
        """Rounds a tensor: the result has the name with "_rounded"."""
        scale, zero = self.scales[name]
        given = [self._constant(f"{name}_scale", scale), self._constant(f"{name}_zero_point", zero)]
        whole = f"{name}_quantized"
        return [
            helper.make_node("QuantizeLinear", [name, *given], [whole], f"{name}_QuantizeLinear"),
            helper.make_node("DequantizeLinear", [whole, *given], [f"{name}_rounded"], f"{name}_DequantizeLinear"),
        ]

    def weights(self, node: NodeProto, source: str) -> list[NodeProto]:
        """Rounds weights, and the bias in 32 bits with the scale of the products; the node then reads these."""
        values = numpy_helper.to_array(self._weights[node.input[1]]).astype(np.float64)
        given = self._rounded.get(node.name)
        scale = given.steps if given else np.abs(values).reshape(len(values), -1).max(1) / self._most_weight
        least, bias = np.full(len(values), 1e-10), None
        if len(node.input) > 2 and node.input[2] in self._weights:
            bias = numpy_helper.to_array(self._weights[node.input[2]]).astype(np.float64)
            bias = bias + given.shift if given else bias
            least = np.maximum(least, np.abs(bias) / (_MOST_BIAS * float(self.scales[source][0])))
        steps: NDArray[np.float32] = np.maximum(scale, least).astype(np.float32)
        column = steps.reshape(-1, 1, 1, 1)
        rounded = np.rint(values / column).clip(-self._most_weight, self._most_weight)
        if given:  # but where the bias needs larger steps
            rounded = np.where(column == given.steps.reshape(column.shape), given.whole, rounded)
        made = [self._whole(node, 1, rounded.astype(np.int8), steps)]
        if bias is not None:
            products = (self.scales[source][0] * steps).astype(np.float32)
            made.append(self._whole(node, 2, np.rint(bias / products).astype(np.int32), products))
        return made

    def _whole(
        self, node: NodeProto, i: int, values: NDArray[np.signedinteger], steps: NDArray[np.float32]
    ) -> NodeProto:
        name = node.input[i]
        inputs = [
            self._constant(f"{name}_quantized", values),
            self._constant(f"{name}_scale", steps),
            self._constant(f"{name}_zero_point", np.zeros(len(steps), values.dtype)),
        ]
        node.input[i] = f"{name}_rounded_for_{node.name}"
        return helper.make_node("DequantizeLinear", inputs, [node.input[i]], f"{node.input[i]}_node", axis=0)

    def _constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        if name not in self._written:
            self._written.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name
