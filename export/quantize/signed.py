"""Rounding as TensorRT takes it, made by ONNX Runtime's quantizer: signed, symmetric, convolutions alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx

from ...runtime.engines.telemetry import without_telemetry

with without_telemetry():
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer


def with_signed_pairs(
    model: onnx.ModelProto,
    nodes: Collection[str],
    sources: Collection[str],
    ranges: Mapping[str, tuple[float, float]],
) -> onnx.ModelProto:
    """Copy a graph and round what convolutions read, each with a pair of its own; what they write stays exact.

    Args:
        model: FP32, from `with_folded_weights`.
        nodes: names of the convolutions.
        sources: names of the tensors that they read; other nodes go on reading the exact ones.
        ranges: (lowest, highest) of these tensors.

    Example:
        >>> with_signed_pairs(plain, ["model.4.cv1"], ["silu"], {"silu": (-0.3, 6.0)})  # doctest: +SKIP
    """
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        onnx.ModelProto.FromString(model.SerializeToString()),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=list(nodes),
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "DedicatedQDQPair": True,
            "AddQDQPairToWeight": True,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # the pairs were put at the end
    quantized: onnx.ModelProto = quantizer.model.model
    _give_others_the_exact_tensor(quantized.graph, nodes, sources)
    return quantized


def _give_others_the_exact_tensor(graph: onnx.GraphProto, nodes: Collection[str], sources: Collection[str]) -> None:
    """Let other readers of a layer's input, such as Add and Concat, read it unquantized, so that their sums stay exact.

    The quantizer gives all readers the quantized tensor.
    """
    maker = {output: node for node in graph.node for output in node.output}
    before: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in maker:
            source = maker[node.input[0]].input[0]
            before |= {node.output[0]: source} if source in sources else {}
    for node in graph.node:
        if node.name not in nodes:
            node.input[:] = [before.get(name, name) for name in node.input]
