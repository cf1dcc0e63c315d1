"""FP16 for CLIP towers: everything except the L2 normalisation at the end.

Layer norms take their mean and variance in FP32 as ONNX defines them (`stash_type` 1). The normalisation squares
features, which may overflow and underflow FP16, and its guard against division by zero (1e-12) is 0 in FP16.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..graph.fp16 import computed_in_fp16

_MASKED = -6e4
"""Replaces minus infinity, or the least FP32 value, in attention masks: its exponential is 0 as well."""

_LINEAR = frozenset({"MatMul", "Gemm", "LayerNormalization", "Gather"})


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert weights and arithmetic to FP16; inputs, outputs and the normalisation stay in FP32.

    Args:
        model: a tower; changed in place and returned.

    Raises:
        ExportError: a weight is too large for FP16.

    Example:
        >>> halved(onnx.load("clip/image.onnx"))  # doctest: +SKIP
    """
    for weight in model.graph.initializer:
        _limit(weight)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _limit(attribute.t)
    return computed_in_fp16(model, _normalisation(model.graph))


def _limit(values: TensorProto) -> None:
    if values.data_type == TensorProto.FLOAT:
        array = numpy_helper.to_array(values)
        if array.size and array.min() < -1e30:
            values.CopyFrom(numpy_helper.from_array(np.maximum(array, np.float32(_MASKED)), values.name))


def _normalisation(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes between the last linear layer and the features."""
    maker = {output: node for node in graph.node for output in node.output}
    names: set[str] = set()
    waiting = [graph.output[0].name]
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.name in names or node.op_type in _LINEAR:
            continue
        names.add(node.name)
        waiting.extend(node.input)
    return names
