"""An ONNX graph while it is being built: nodes, weights, and the number of channels of each tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .records import Refused

Array = NDArray[np.float32]

MAX_NODES = 20_000
"""YOLOv8x-seg has 500."""


@dataclass(frozen=True)
class Value:
    """A tensor of the graph, (b, channels, h, w).

    Attributes:
        name: in the graph.
        channels: length of its second axis.

    Example:
        >>> Value("images", 3).channels
        3
    """

    name: str
    channels: int


@dataclass(eq=False)
class Graph:
    """Nodes and constants in the order in which they are added. Names are those of the layers.

    Attributes:
        opset: of the graph.
        keeps_factors: whether `factors` is filled; it takes as much memory as the weights.
        nodes, weights: what has been added.
        factors: name of a weight → what it was before batch normalisation was folded in, and the factor of each of its
            output channels (see `stored_compactly`).

    Example:
        >>> graph = Graph(18)
        >>> graph.add("Sigmoid", ["images"], "model.0.act")
        'model.0.act/Sigmoid'
    """

    opset: int
    keeps_factors: bool = False
    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)
    factors: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _layers: int = 0

    def count_layer(self) -> None:
        """Count a layer that is built: layers within each other can be many without any operation.

        Raises:
            Refused: there are too many.
        """
        self._layers += 1
        if self._layers > MAX_NODES:
            raise Refused(f"has a network of more than {MAX_NODES:,} layers")

    def add(self, operator: str, inputs: Sequence[str], at: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output.

        Args:
            operator: of ONNX.
            inputs: names of its inputs, in order.
            at: name of the layer that it belongs to.
            output: name of its output; None: that of the node.
            attributes: of the operator.

        Returns:
            The name of the output.
        """
        name = self._new(f"{at}/{operator}")
        return self._node(operator, inputs, [output or name], name, attributes)[0]

    def split(self, value: Value, sizes: Sequence[int], at: str) -> list[Value]:
        """Add a Split of the channels into parts of these sizes."""
        name = self._new(f"{at}/Split")
        outputs = [f"{name}_{i}" for i in range(len(sizes))]
        self._node("Split", [value.name, self.integers(sizes, name)], outputs, name, {"axis": 1})
        return [Value(output, size) for output, size in zip(outputs, sizes, strict=True)]

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """Add a weight as float32.

        Raises:
            Refused: a value is too large.
        """
        single = values.astype(np.float32)
        if not np.isfinite(single).all():
            raise Refused(f"has values in {name} that are too large for FP32")
        return self._constant(single, self._new(name))

    def integers(self, values: Sequence[int], at: str) -> str:
        """Add a constant list of int64."""
        return self._constant(np.array(values, np.int64), self._new(f"{at}/sizes"))

    def scalar(self, value: float, at: str) -> str:
        """Add a constant float32 without axes."""
        return self._constant(np.array(value, np.float32), self._new(f"{at}/number"))

    def model(self, batch: int | None, size_hw: tuple[int, int] | None, outputs: Sequence[str]) -> onnx.ModelProto:
        """The finished model: `images` (b, 3, H, W) → outputs of three and four axes. The weights are moved into it.

        Args:
            batch, size_hw: of the input; None where it may vary.
            outputs: names of the detections and of the prototypes.
        """
        images = [batch or "batch", 3, *(size_hw or ("height", "width"))]
        shapes = [[batch or "batch", None, None], [batch or "batch", None, None, None]]
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(outputs, shapes, strict=True)
        ]
        begin = helper.make_tensor_value_info("images", TensorProto.FLOAT, images)
        graph = helper.make_graph(self.nodes, "main_graph", [begin], ends)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], producer_name="")
        self.weights.reverse()
        while self.weights:  # moved one by one: those of a large network are not to be in memory twice
            model.graph.initializer.append(self.weights.pop())
        # Of a fixed input, the shapes of the outputs follow.
        return model if batch is None or size_hw is None else onnx.shape_inference.infer_shapes(model)

    def _node(
        self, operator: str, inputs: Sequence[str], outputs: list[str], name: str, attributes: dict[str, Any]
    ) -> list[str]:
        if len(self.nodes) >= MAX_NODES:
            raise Refused(f"has a network of more than {MAX_NODES:,} operations")
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name, **attributes))
        return outputs

    def _constant(self, values: NDArray[Any], name: str) -> str:
        # Not np.ascontiguousarray, which gives a number an axis. NVIDIA's parser refuses Range with such numbers.
        self.weights.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def _new(self, name: str) -> str:
        """The name, with a number where it is taken."""
        number, free = 1, name
        while free in self._names:
            number, free = number + 1, f"{name}_{number}"
        self._names.add(free)
        return free
