"""Which nodes of a graph compute in 8 bits on a processor, and which tensors are rounded for that.

ONNX Runtime replaces a node by its 8-bit operator if all that it reads and writes is rounded: QLinearConv,
QLinearSigmoid, QLinearMul, QLinearAdd, QLinearConcat, and MaxPool, Split, Reshape, Transpose on bytes. A single node in
floating point between them costs two conversions. OpenVINO appends SiLU to the convolution before it and rounds once,
after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx
from onnx import NodeProto

from ..graph.fp16 import decoding_nodes

_MOVING = frozenset(("Concat", "MaxPool", "Split", "Reshape", "Transpose", "Resize"))
"""Values are chosen or moved, not calculated: with one scale before and after they are not rounded again."""

_CALCULATING = frozenset(("Sigmoid", "Mul", "Add"))

_ONE_TENSOR = frozenset(("Conv", "MaxPool", "Split", "Reshape", "Transpose", "Resize"))
"""What else they read is no tensor of values."""


@dataclass(frozen=True)
class Placement:
    """What computes in 8 bits.

    Attributes:
        nodes: names of the nodes.
        tensors: names of the tensors that are rounded: all that the nodes read and write, or all that they read.
        shared: the same names, in groups of tensors that have one scale.

    Example:
        >>> Placement(frozenset({"conv"}), frozenset({"x", "y"}), (frozenset({"x"}), frozenset({"y"}))).nodes
        frozenset({'conv'})
    """

    nodes: frozenset[str]
    tensors: frozenset[str]
    shared: tuple[frozenset[str], ...]

    def calibrated(self, model: onnx.ModelProto) -> frozenset[str]:
        """The tensors whose ranges have to be measured: those that are calculated, but not the results of Sigmoid."""
        known = {
            output
            for node in model.graph.node
            if node.name in self.nodes and (node.op_type in _MOVING or node.op_type == "Sigmoid")
            for output in node.output
        }
        return self.tensors - known


def placement_for(model: onnx.ModelProto, convolutions: Collection[str], *, results: bool) -> Placement:
    """Choose what computes in 8 bits: some convolutions, and all between them that can.

    Args:
        model: FP32, from `with_folded_weights`.
        convolutions: names of the nodes.
        results: what the nodes write is rounded too, as ONNX Runtime needs; False: what they read alone, so that SiLU
            sees the exact sums of a convolution, as OpenVINO computes it.

    Example:
        >>> placement = placement_for(plain, [layer.node for layer in layers], results=True)  # doctest: +SKIP
        >>> sorted(placement.tensors)[:2]  # doctest: +SKIP
        ['images', 'model.0.conv/Conv']
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    kinds = _MOVING | (_CALCULATING if results else {"Add"})
    tail, ends = decoding_nodes(graph), {output.name for output in graph.output}
    chosen = {node.name for node in graph.node if node.op_type in kinds and not ends & {*node.output}} - tail
    chosen |= {*convolutions}
    maker = {output: node for node in graph.node for output in node.output}
    # SiLU in floating point is no obstacle where results are exact: what follows rounds its result.
    passing = set() if results else {node.name for node in graph.node if node.op_type == "Mul"} - tail
    nodes = [node for node in graph.node if node.name in chosen]
    while dropped := {
        node.name
        for node in nodes
        if node.op_type != "Conv"
        and not all(name in maker and maker[name].name in chosen | passing for name in _values(node, constants))
    }:
        chosen -= dropped
        nodes = [node for node in nodes if node.name in chosen]
    tensors = {name for node in nodes for name in _values(node, constants)}
    tensors |= {output for node in nodes if results or node.op_type != "Conv" for output in node.output} - ends
    return Placement(frozenset(chosen), frozenset(tensors), _groups(nodes, tensors, constants))


def _values(node: NodeProto, constants: Collection[str]) -> list[str]:
    """The tensors that a node reads, without weights, shapes and scales."""
    inputs = node.input[:1] if node.op_type in _ONE_TENSOR else node.input
    return [name for name in inputs if name not in constants or node.op_type in _CALCULATING]


def _groups(nodes: Iterable[NodeProto], tensors: set[str], constants: Collection[str]) -> tuple[frozenset[str], ...]:
    groups = {name: frozenset((name,)) for name in sorted(tensors)}
    for node in nodes:
        if node.op_type in _MOVING:
            names = [*_values(node, constants), *node.output]
            joined = frozenset().union(*(groups[name] for name in names))
            groups |= dict.fromkeys(joined, joined)
    return tuple(dict.fromkeys(groups.values()))


def read_by_silu(model: onnx.ModelProto) -> frozenset[str]:
    """Names of the tensors of which SiLU is taken, and nothing else.

    Example:
        >>> read_by_silu(plain)  # doctest: +SKIP
        frozenset({'model.0.conv/Conv', …})
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return frozenset(
        name
        for name, nodes in readers.items()
        if sorted(node.op_type for node in nodes) == ["Mul", "Sigmoid"]
        and {*nodes[0].input, *nodes[1].input} == {name, *next(n.output for n in nodes if n.op_type == "Sigmoid")}
    )
