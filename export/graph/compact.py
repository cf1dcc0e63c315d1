"""Half the file size without a rounding error: weights stored as the checkpoint stores them, in FP16.

ultralytics saves checkpoints in FP16. Fusing batch normalisation multiplies each output channel by a factor, after
which a weight needs FP32 again. So the file keeps the two apart, FP16 weight and FP32 factor, and the graph
multiplies them; runtimes do that once, when they load the file. All arithmetic is FP32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

_SMALL = 1024
"""Initializers of fewer elements stay as they are."""

_ROUNDING = 1e-6
"""Relative; the product of weight and factor may differ from the folded weight by the order of its roundings."""

Array = NDArray[np.float32]

Factors = Mapping[str, tuple[Array, Array]]
"""Name of a weight → the weight (o, i, h, w) before batch normalisation was folded in, and its factor (o, 1, 1, 1)."""


def stored_compactly(model: onnx.ModelProto, factors: Factors) -> onnx.ModelProto:
    """Store every weight in FP16 that loses nothing by it; the others stay in FP32.

    Args:
        model: graph of the fused network, FP32; changed in place and returned.
        factors: of the weights into which batch normalisation was folded.

    Example:
        >>> weight = numpy_helper.from_array(np.full((1024, 2), 0.5, np.float32), "weight")
        >>> model = helper.make_model(helper.make_graph([], "graph", [], [], [weight]))
        >>> compact = stored_compactly(model, {})
        >>> [(tensor.name, tensor.data_type == TensorProto.FLOAT16) for tensor in compact.graph.initializer]
        [('weight_fp16', True)]
        >>> [(node.op_type, node.output[0]) for node in compact.graph.node]
        [('Cast', 'weight')]
    """
    graph = model.graph
    nodes: list[NodeProto] = []
    for weight in [w for w in graph.initializer if w.data_type == TensorProto.FLOAT]:
        values = numpy_helper.to_array(weight)
        if values.size < _SMALL:
            continue
        name = weight.name
        plain, factor = factors.get(name, (values, None))
        halved = plain.astype(np.float16)
        product = halved.astype(np.float32) if factor is None else halved.astype(np.float32) * factor
        if product.shape != values.shape or not np.allclose(product, values, rtol=_ROUNDING, atol=0):
            continue
        weight.CopyFrom(numpy_helper.from_array(halved, f"{name}_fp16"))
        cast = name if factor is None else f"{name}_fp32"
        nodes.append(helper.make_node("Cast", [f"{name}_fp16"], [cast], f"{name}_cast", to=TensorProto.FLOAT))
        if factor is not None:
            graph.initializer.append(numpy_helper.from_array(factor, f"{name}_factor"))
            nodes.append(helper.make_node("Mul", [cast, f"{name}_factor"], [name], f"{name}_scaled"))
    for i, node in enumerate(nodes):
        graph.node.insert(i, node)
    return model
