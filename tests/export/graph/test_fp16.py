"""FP16 in the graph: the decoding stays FP32 because it has to, and masks stay what they were."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.graph.fp16 import computed_in_fp16, decoding_nodes, nodes_kept_fp32, rounded_like_fp16
from fastsam_deploy.export.graph.suppression import with_suppression
from fastsam_deploy.export.quantize.graph import layers_of, with_folded_weights
from fastsam_deploy.export.quantize.judge import Judge
from fastsam_deploy.runtime import load_image
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.measure.fidelity import fidelity
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.stages.letterbox import fit, letterbox
from fastsam_deploy.runtime.suppression import Suppression


@pytest.fixture(scope="module")
def plain(demo_onnx: Path) -> onnx.ModelProto:
    """The demo model with plain FP32 weights."""
    return with_folded_weights(onnx.load(demo_onnx))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(model.SerializeToString())


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return known | {weight.name: weight.data_type for weight in graph.initializer}


def test_masks_of_the_fp16_graph_are_those_of_the_fp32_one(
    plain: onnx.ModelProto, demo_onnx: Path, coffee: Path, cat: Path
) -> None:
    """With every result rounded: ONNX Runtime alone would leave most of the rounding out on a processor."""
    judge = Judge(demo_onnx, [coffee, cat], 256)
    found = judge.judge(rounded_like_fp16(plain), as_written=True)
    assert found.detections > 10
    assert found.mean_iou >= 0.98
    assert found.recall >= 0.98
    assert abs(found.detections_rounded - found.detections) <= 0.02 * found.detections + 1


def test_decoding_in_fp16_moves_boxes_and_decoding_in_fp32_does_not(
    plain: onnx.ModelProto, demo_onnx: Path, coffee: Path, tmp_path: Path
) -> None:
    """FP16 has a spacing of 0.5 above 512: why the decoding is kept."""
    onnx.save(computed_in_fp16(copied(plain)), tmp_path / "kept.onnx")
    onnx.save(computed_in_fp16(copied(plain), set()), tmp_path / "all.onnx")
    with FastSAM(demo_onnx, imgsz=640) as model:
        expected = [model.segment(coffee)]
    worst = {}
    for name in ("kept", "all"):
        with FastSAM(tmp_path / f"{name}.onnx", imgsz=640) as model:
            worst[name] = fidelity(expected, [model.segment(coffee)]).mean_box_px
    assert worst["kept"] < 0.1
    assert worst["all"] > 2 * worst["kept"]


def test_rounding_is_done_after_every_convolution() -> None:
    """0.3 + 2048 - 2048 is 0 in FP16; ONNX Runtime says 0.3 of the FP16 graph itself."""
    import onnxruntime
    from onnx import helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 2, 2]) for name in ("x", "z")]
    ones = np.ones((1, 1, 1, 1), np.float32)
    weights = {"w": ones, "up": np.float32([2048]), "down": np.float32([-2048])}
    nodes = [
        helper.make_node("Conv", ["x", "w", "up"], ["y"], "a"),
        helper.make_node("Conv", ["y", "w", "down"], ["z"], "b"),
    ]
    graph = helper.make_graph(
        nodes, "sum", ends[:1], ends[1:], [numpy_helper.from_array(v, name) for name, v in weights.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(
        rounded_like_fp16(model, set()).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert not session.run(None, {"x": np.full((1, 1, 2, 2), 0.3, np.float32)})[0].any()


def test_any_part_can_stay_fp32(plain: onnx.ModelProto) -> None:
    """Values cross from FP32 to FP16 and back as often as need be."""
    chosen = {layer.node for layer in layers_of(plain) if layer.group in ("model.0", "model.6", "model.22.cv3")}
    model = computed_in_fp16(copied(plain), decoding_nodes(plain.graph) | chosen)
    onnx.checker.check_model(model, full_check=True)
    types = types_of(model)
    high = {
        node.name for node in model.graph.node if node.op_type == "Conv" and types[node.output[0]] == TensorProto.FLOAT
    }
    assert high >= chosen
    assert len(high) == len(chosen) + 1


def test_every_convolution_from_the_second_to_the_decoding_is_fp16(plain: onnx.ModelProto) -> None:
    half = computed_in_fp16(copied(plain))
    onnx.checker.check_model(half, full_check=True)
    types = types_of(half)
    kinds = {node.name: types[node.output[0]] for node in half.graph.node if node.op_type in ("Conv", "ConvTranspose")}
    assert len(kinds) > 70
    first = {layer.node for layer in layers_of(plain) if layer.group == "model.0"}
    assert len(first) == 1
    assert {name for name, kind in kinds.items() if kind == TensorProto.FLOAT} == first | (
        set(kinds) & decoding_nodes(half.graph)
    )
    assert types["output0"] == types["output1"] == types["images"] == TensorProto.FLOAT


def test_the_first_convolution_in_fp16_costs_accuracy(
    plain: onnx.ModelProto, demo_onnx: Path, coffee: Path, cat: Path, tmp_path: Path
) -> None:
    """With every result rounded, as a GPU computes; why it is kept."""
    files = {"plain": demo_onnx}
    for name, nodes in (("kept", nodes_kept_fp32(plain.graph)), ("rounded", decoding_nodes(plain.graph))):
        files[name] = tmp_path / f"{name}.onnx"
        onnx.save(rounded_like_fp16(plain, nodes), files[name])
    for path in (coffee, cat):
        image = load_image(path)
        blob = letterbox(image, fit(image.shape[:2], (640, 640)))[None]
        scores = {}
        for name, file in files.items():
            with open_engine(file) as engine:
                scores[name] = engine.run(blob)["detections"][:, 4]
        kept, rounded = (np.abs(scores[name] - scores["plain"]).mean() for name in ("kept", "rounded"))
        assert kept < 0.95 * rounded


def test_nms_in_the_graph_stays_fp32_and_keeps_the_answer(
    plain: onnx.ModelProto, demo_onnx: Path, coffee: Path, tmp_path: Path
) -> None:
    with open_engine(demo_onnx) as engine:
        spec = engine.spec
    onnx.save(computed_in_fp16(copied(plain)), tmp_path / "half.onnx")
    suppressed = computed_in_fp16(with_suppression(plain, spec, Suppression(0.01, 0.9, 300)))
    onnx.checker.check_model(suppressed, full_check=True)
    types = types_of(suppressed)
    names = [node.output[0] for node in suppressed.graph.node if node.name.startswith("nms/")]
    assert TensorProto.FLOAT16 not in {types[name] for name in names}
    onnx.save(suppressed, tmp_path / "half-nms.onnx")
    answers = []
    for name in ("half", "half-nms"):
        with FastSAM(tmp_path / f"{name}.onnx", imgsz=192) as model:
            answers.append([model.segment(coffee)])
    same = fidelity(*answers)
    assert same.reference_count == same.candidate_count == same.matched_count > 3
    assert same.min_iou == 1


def test_a_weight_that_fp16_cannot_hold_is_refused(plain: onnx.ModelProto) -> None:
    model = copied(plain)
    name = next(layer for layer in layers_of(model) if layer.name == "model.9.cv1").node
    node = next(node for node in model.graph.node if node.name == name)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    weight.CopyFrom(numpy_helper.from_array(np.full(tuple(weight.dims), 7e4, np.float32), weight.name))
    with pytest.raises(ExportError, match=r"reaches 7e\+04, FP16 ends at 65504"):
        computed_in_fp16(model)
