"""The ONNX files that we export hold only operators, types and settings that TensorRT's parser takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.emulator.tensorrt.operators import ONNX_TYPES, OPSETS, SOURCE, SUPPORTED

onnx = pytest.importorskip("onnx", reason="needs the extra [export]")


def problems(model: onnx.ModelProto) -> Iterator[str]:
    """What TensorRT's table does not have."""
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            yield f"operators of {opset.domain}"
        elif opset.version not in OPSETS:
            yield f"opset {opset.version}"
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in values}
    kinds |= {weight.name: weight.data_type for weight in inferred.initializer}
    weights = {weight.name: weight for weight in inferred.initializer}
    for node in model.graph.node:
        if node.op_type not in SUPPORTED:
            yield f"{node.name}: {node.op_type} is not supported"
            continue
        name = next((n for n in node.input if n), None) or node.output[0]
        kind = ONNX_TYPES.get(kinds.get(name, 0))
        if kind not in SUPPORTED[node.op_type]:
            yield f"{node.name}: {node.op_type} of {kind}"
        yield from restrictions(node, weights)


def restrictions(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> Iterator[str]:
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
        zero = weights.get(node.input[2])
        if zero is None or np.any(onnx.numpy_helper.to_array(zero)):
            yield f"{node.name}: its zero point is not 0"
    if node.op_type == "TopK":
        count = weights.get(node.input[1])
        if count is not None and onnx.numpy_helper.to_array(count).item() >= 3840:
            yield f"{node.name}: K is {onnx.numpy_helper.to_array(count).item()}"
    if node.op_type.startswith("Reduce") and len(node.input) > 1 and node.input[1] and node.input[1] not in weights:
        yield f"{node.name}: its axes are computed"
    if node.op_type == "Resize":
        policy = values.get("keep_aspect_ratio_policy", b"stretch")
        if (
            values.get("antialias")
            or policy != b"stretch"
            or values.get("mode", b"nearest") not in (b"nearest", b"linear")
        ):
            yield f"{node.name}: {values}"
    if node.op_type in ("MaxPool", "AveragePool") and math.prod(values.get("dilations", [1])) != 1:
        yield f"{node.name}: dilations"


@pytest.fixture
def demo(demo_onnx: Path) -> onnx.ModelProto:
    return onnx.load(demo_onnx)


def test_the_list_is_a_published_one() -> None:
    assert "TensorRT 10.15" in SOURCE
    assert len(SUPPORTED) > 100
    assert "FP16" in SUPPORTED["Conv"] and "INT8" not in SUPPORTED["Conv"]
    assert "NonMaxSuppression" in SUPPORTED and "QLinearConv" not in SUPPORTED


def test_the_demo_model(demo: onnx.ModelProto) -> None:
    assert list(problems(demo)) == []


def test_its_fp16_graph(demo: onnx.ModelProto) -> None:
    from fastsam_deploy.export.graph.fp16 import computed_in_fp16

    assert list(problems(computed_in_fp16(demo))) == []


def test_its_graph_with_nms(demo: onnx.ModelProto) -> None:
    from fastsam_deploy.export.graph.suppression import with_suppression
    from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec
    from fastsam_deploy.runtime.suppression import Suppression

    spec = ModelSpec.from_json(next(e.value for e in demo.metadata_props if e.key == METADATA_KEY))
    graph = with_suppression(demo, spec, Suppression(0.001, 0.9, 300))
    assert {"NonMaxSuppression", "TopK"} <= {node.op_type for node in graph.graph.node}
    assert list(problems(graph)) == []


@pytest.mark.parametrize("half", [False, True])
def test_its_int8_graph(demo: onnx.ModelProto, half: bool) -> None:
    from fastsam_deploy.export.quantize.graph import layers_of, tensors_to_calibrate, with_folded_weights, with_qdq

    plain = with_folded_weights(demo)
    layers = layers_of(plain)
    ranges = dict.fromkeys(tensors_to_calibrate(plain, layers, "tensorrt"), (-1.0, 1.0))
    graph = with_qdq(plain, layers, ranges, "tensorrt", half=half)
    assert sum(node.op_type == "QuantizeLinear" for node in graph.graph.node) > 10
    assert list(problems(graph)) == []


def test_what_is_not_in_the_list_is_found(demo: onnx.ModelProto) -> None:
    demo.graph.node[3].op_type = "Celu"
    demo.opset_import[0].version = 25
    found = list(problems(demo))
    assert any("Celu is not supported" in text for text in found) and "opset 25" in found


@pytest.mark.export
@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_fresh_export(demo_checkpoint: Path, exporter: str) -> None:
    from fastsam_deploy.export.checkpoint.load import load_checkpoint
    from fastsam_deploy.export.graph.finish import DEFAULT_OPSET, tidied
    from fastsam_deploy.export.graph.trace import graph_from_network

    network = load_checkpoint(demo_checkpoint, trust=False).network
    graph = graph_from_network(network, (2, 96, 128), dynamic=True, opset=DEFAULT_OPSET, exporter=exporter)
    assert list(problems(tidied(graph, channels=(37, 32), dynamic=True, simplify=True))) == []
