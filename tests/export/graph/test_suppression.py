"""NMS inside the graph: the same detections as NMS outside, whatever the network says; what cannot be had is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="needs the extra [export]: onnx is not installed")

import onnx
from onnx import TensorProto, helper, numpy_helper

from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.graph.suppression import TOP_K_LIMIT, check_suppression, with_suppression
from fastsam_deploy.export.proof.suppression import compare_suppression
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.tensors import spec_from_tensors
from fastsam_deploy.runtime.errors import ModelError, ParameterError
from fastsam_deploy.runtime.measure.fidelity import fidelity
from fastsam_deploy.runtime.network import TensorInfo
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.decode import Detections, decode
from fastsam_deploy.runtime.suppression import Suppression

# Of TensorRT's published operator table (onnx-tensorrt, docs/operators.md).
TENSORRT_OPERATORS = {
    *("Add", "ArgMax", "Cast", "Concat", "ConstantOfShape", "Gather", "GatherElements", "GatherND", "Greater", "IsNaN"),
    *("Mul", "NonMaxSuppression", "Pad", "ReduceSum", "ScatterND", "Shape", "Split", "Squeeze", "Sub", "TopK"),
    *("Transpose", "Unsqueeze", "Where"),
}
DEFAULT = Suppression(0.25, 0.7, 20)


def detections(seed: int, classes: int, anchors: int = 120, batch: int = 2) -> NDArray[np.float32]:
    """(batch, 4 + classes + 4, anchors): crowded boxes, many equal scores."""
    random = np.random.default_rng(seed)
    centres = random.uniform(20, 60, (batch, 2, anchors))
    sizes = random.uniform(15, 40, (batch, 2, anchors))
    scores = random.uniform(0, 1, (batch, classes, anchors)).round(2)
    coefficients = random.normal(size=(batch, 4, anchors))
    return np.concatenate((centres, sizes, scores, coefficients), axis=1).astype(np.float32)


def constant_network(values: NDArray[np.float32], classes: int) -> tuple[onnx.ModelProto, ModelSpec]:
    """A network of the layout "raw" that says `values` whatever it is shown, and its spec."""
    prototypes = np.ones((len(values), 4, 8, 8), np.float32)
    weights = [numpy_helper.from_array(values, "said"), numpy_helper.from_array(prototypes, "shapes")]
    nodes = [helper.make_node("Identity", [source], [name], name) for source, name in
             (("said", "output0"), ("shapes", "output1"))]  # fmt: skip
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [len(values), 3, 32, 32])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in
               (("output0", values), ("output1", prototypes))]  # fmt: skip
    graph = helper.make_graph(nodes, "constant", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    names = tuple(f"class {i}" for i in range(classes))
    spec = ModelSpec(batch=len(values), size_hw=(32, 32), imgsz=32, class_names=names, mask_dim=4)
    helper.set_model_props(model, {"fastsam_deploy": spec.to_json()})
    return model, spec


def both(
    values: NDArray[np.float32], classes: int, suppression: Suppression, folder: Path
) -> list[tuple[Detections, Detections]]:
    """For each image what NMS outside and NMS in the graph find."""
    model, spec = constant_network(values, classes)
    suppressed = with_suppression(model, spec, suppression)
    onnx.checker.check_model(suppressed, full_check=True)
    path = folder / "suppressed.onnx"
    onnx.save(suppressed, path)
    with open_engine(path) as engine:
        rows = engine.run(np.zeros((len(values), 3, 32, 32), np.float32))["detections"]
        return [
            (decode(raw, spec, suppression), decode(found, engine.spec, suppression))
            for raw, found in zip(values, rows, strict=True)
        ]


def assert_equal(expected: Detections, found: Detections) -> None:
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
    np.testing.assert_array_equal(found.coefficients, expected.coefficients)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("iou", [0.3, 0.7, 0.9])
def test_the_graph_keeps_exactly_what_decode_keeps(seed: int, classes: int, iou: float, tmp_path: Path) -> None:
    found = both(detections(seed, classes), classes, Suppression(0.25, iou, 40), tmp_path)
    for expected, ours in found:
        assert 3 < len(expected.scores) <= 40
        assert_equal(expected, ours)
    if classes > 1:
        assert len(set(found[0][1].classes.tolist())) > 1


def test_max_det_counts_for_each_image_and_the_best_stay(tmp_path: Path) -> None:
    for expected, ours in both(detections(9, 1), 1, Suppression(0.01, 1.0, 7), tmp_path):
        assert len(ours.scores) == 7
        assert_equal(expected, ours)


def test_images_with_nothing_and_with_few_anchors(tmp_path: Path) -> None:
    values = detections(1, 1, anchors=5)
    values[0, 4] = 0.25  # the threshold itself is not above it
    (empty, ours_empty), (few, ours_few) = both(values, 1, DEFAULT, tmp_path)
    assert len(empty.scores) == len(ours_empty.scores) == 0
    assert 0 < len(few.scores) <= 5
    assert_equal(few, ours_few)


def test_a_score_that_is_not_a_number_is_not_overlooked(tmp_path: Path) -> None:
    values = detections(2, 2)
    values[1, 5, 3] = np.nan
    model, spec = constant_network(values, 2)
    onnx.save(with_suppression(model, spec, DEFAULT), tmp_path / "m.onnx")
    with open_engine(tmp_path / "m.onnx") as engine:
        rows = engine.run(np.zeros((2, 3, 32, 32), np.float32))["detections"]
        decode(rows[0], engine.spec, DEFAULT)
        with pytest.raises(ModelError, match="NaN or infinite"):
            decode(rows[1], engine.spec, DEFAULT)


@pytest.fixture(scope="module")
def suppressed(demo_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model with NMS in its graph."""
    with open_engine(demo_onnx) as engine:
        spec = engine.spec
    path = tmp_path_factory.mktemp("nms") / "demo-nms.onnx"
    onnx.save(with_suppression(onnx.load(demo_onnx), spec, Suppression(0.001, 0.9, 300)), path)
    return path


def test_outputs_have_the_names_types_and_shapes_of_the_contract(suppressed: Path) -> None:
    found = {
        output.name: (
            output.type.tensor_type.elem_type,
            [d.dim_param or d.dim_value for d in output.type.tensor_type.shape.dim],
        )
        for output in onnx.load(suppressed).graph.output
    }
    assert found == {
        "num_dets": (TensorProto.INT32, ["batch", 1]),
        "boxes": (TensorProto.FLOAT, ["batch", 300, 4]),
        "scores": (TensorProto.FLOAT, ["batch", 300]),
        "classes": (TensorProto.INT32, ["batch", 300]),
        "coefficients": (TensorProto.FLOAT, ["batch", 300, 32]),
        "output1": (TensorProto.FLOAT, ["batch", 32, "mask_height", "mask_width"]),
    }


def test_our_runtime_gives_the_raw_files_segments(suppressed: Path, demo_onnx: Path, coffee: Path, cat: Path) -> None:
    """Batches of one and of three, rectangles and squares, thresholds above the graph's own."""
    for imgsz, rect, conf, photographs in (
        (256, True, 0.4, [coffee]),
        (192, False, 0.1, [cat, coffee, cat]),
        (64, False, 0.05, [cat]),
    ):
        with (
            FastSAM(demo_onnx, imgsz=imgsz, rect=rect, conf=conf) as raw,
            FastSAM(suppressed, imgsz=imgsz, rect=rect, conf=conf) as ours,
        ):
            expected, found = raw.segment_batch(photographs), ours.segment_batch(photographs)
        same = fidelity(expected, found)
        assert same.reference_count == same.candidate_count == same.matched_count > 1
        assert same.min_iou == 1
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_array_equal(one.scores, other.scores)


def test_num_dets_counts_the_rows_that_are_real(suppressed: Path, coffee: Path) -> None:
    import onnxruntime

    from fastsam_deploy.runtime.stages.image import load_image
    from fastsam_deploy.runtime.stages.letterbox import fit, letterbox

    pixels = load_image(coffee)
    image = letterbox(pixels, fit((pixels.shape[0], pixels.shape[1]), (96, 128)))
    session = onnxruntime.InferenceSession(suppressed, providers=["CPUExecutionProvider"])
    count, boxes, scores = session.run(["num_dets", "boxes", "scores"], {"images": image[None]})
    real = int(count[0, 0])
    assert 0 < real < 300
    assert (scores[0, :real] > 0.001).all() and not scores[0, real:].any() and not boxes[0, real:].any()
    assert (np.diff(scores[0]) <= 0).all()


def test_only_operators_that_tensorrt_takes_and_a_constant_k(suppressed: Path) -> None:
    graph = onnx.load(suppressed).graph
    added = [node for node in graph.node if node.name.startswith("nms/")]
    assert {node.op_type for node in added} <= TENSORRT_OPERATORS
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    (top,) = [node for node in added if node.op_type == "TopK"]
    assert constants[top.input[1]].tolist() == [300]
    (nms,) = [node for node in added if node.op_type == "NonMaxSuppression"]
    assert set(nms.input[2:]) <= set(constants)


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [
        ({"conf": 0.0005}, r"conf is 0.0005.*above 0.001.*--conf"),
        ({"iou": 0.7}, r"iou is 0.7.*with 0.9.*--iou 0.7"),
        ({"max_det": 301}, r"max_det is 301.*at most 300.*--max-det 301"),
    ],
    ids=str,
)
def test_thresholds_that_the_graph_cannot_serve_are_refused(
    thresholds: dict[str, float], said: str, suppressed: Path, coffee: Path
) -> None:
    with FastSAM(suppressed, imgsz=64, **thresholds) as model, pytest.raises(ParameterError, match=said):
        model.segment(coffee)


@pytest.mark.parametrize(
    ("suppression", "opset", "said"),
    [
        ((1, 0.9, 300), 18, "conf is 1"),
        ((0.1, 0, 300), 18, "iou is 0"),
        ((0.1, 0.9, 0), 18, "max_det is 0"),
        ((0.1, 0.9, TOP_K_LIMIT + 1), 18, "max_det is 3841.*TopK"),
        ((0.1, 0.9, 300), 12, "opset is 12"),
    ],
    ids=str,
)
def test_settings_that_make_no_graph_are_refused(suppression: tuple[float, float, int], opset: int, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        check_suppression(Suppression(*suppression), opset)


def test_the_spec_keeps_the_thresholds_and_a_raw_one_says_nothing_of_them() -> None:
    spec = ModelSpec(layout="split", detections="boxes", suppression=DEFAULT)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert "suppression" not in ModelSpec().to_json()


def test_a_file_that_lacks_one_of_the_outputs_is_refused() -> None:
    shapes = {"num_dets": (1, 1), "boxes": (1, 9, 4), "scores": (1, 9), "classes": (1, 9)}
    outputs = [TensorInfo(name, "float32", shape) for name, shape in shapes.items()]
    outputs.append(TensorInfo("output1", "float32", (1, 32, 8, 8)))
    with pytest.raises(ModelError, match="outputs are num_dets"):
        spec_from_tensors([TensorInfo("images", "float32", (1, 3, 32, 32))], outputs, {}, "m.onnx")


def test_a_second_nms_and_another_answer_are_refused(suppressed: Path, demo_onnx: Path, tmp_path: Path) -> None:
    from fastsam_deploy.export.proof.inputs import batches_for, load_photographs

    with open_engine(suppressed) as engine, pytest.raises(ExportError, match="layout 'split', expected 'raw'"):
        with_suppression(onnx.load(suppressed), engine.spec, DEFAULT)
    model = onnx.load(suppressed)
    (nms,) = [node for node in model.graph.node if node.op_type == "NonMaxSuppression"]
    threshold = next(tensor for tensor in model.graph.initializer if tensor.name == nms.input[3])
    threshold.CopyFrom(numpy_helper.from_array(np.array([0.5], np.float32), threshold.name))
    onnx.save(model, tmp_path / "wrong.onnx")
    with open_engine(demo_onnx) as engine:
        batches = batches_for(replace(engine.spec, imgsz=96), load_photographs())
    inside = Suppression(0.001, 0.9, 300)
    assert compare_suppression(demo_onnx, suppressed, inside, batches[:1]).worst == 1
    with pytest.raises(ExportError, match=r"keeps \d+ of \d+ detections"):
        compare_suppression(demo_onnx, tmp_path / "wrong.onnx", inside, batches[:1])
    with pytest.raises(ExportError, match=r"max_det=300.*expected.*max_det=20"):
        compare_suppression(demo_onnx, suppressed, DEFAULT, batches[:1])


def test_nothing_to_suppress_is_no_proof(tmp_path: Path) -> None:
    """A graph that always gives nothing would pass on images in which nothing is found."""
    from fastsam_deploy.export.proof.inputs import Batch

    values = detections(0, 1, batch=1)
    values[:, 4] *= 0.2
    raw, spec = constant_network(values, 1)
    suppression = Suppression(0.25, 0.7, 20)
    onnx.save(raw, tmp_path / "raw.onnx")
    onnx.save(with_suppression(raw, spec, suppression), tmp_path / "nms.onnx")
    batch = Batch(np.zeros((1, 3, 32, 32), np.float32), ())
    with pytest.raises(ExportError, match=r"nothing is detected with a score above 0\.25 .*give other photographs"):
        compare_suppression(tmp_path / "raw.onnx", tmp_path / "nms.onnx", suppression, [batch])


def test_a_triton_repository_is_refused(suppressed: Path, tmp_path: Path) -> None:
    from fastsam_deploy.export.triton.to_triton import build_repository

    with pytest.raises(ModelError, match="export it without --nms"):
        build_repository(suppressed, tmp_path / "repository")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.export
def test_export_with_nms_is_compared_and_leaves_nothing_when_wrong(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")
    from fastsam_deploy.export import to_onnx
    from fastsam_deploy.export.proof import suppression

    settings = {"imgsz": 96, "exporter": "torchscript", "simplify": False}
    chosen = Suppression(0.01, 0.9, 100)
    proof = to_onnx.export_onnx(demo_checkpoint, tmp_path / "m.onnx", suppression=chosen, **settings)
    assert (proof.spec.layout, proof.spec.suppression) == ("split", chosen)
    assert proof.findings[-1].worst == 1
    with open_engine(proof.path) as engine:
        assert engine.spec == proof.spec
    genuine: Callable[..., onnx.ModelProto] = suppression.with_suppression
    monkeypatch.setattr(suppression, "with_suppression", lambda g, s, c: genuine(g, s, replace(c, max_det=1)))
    with pytest.raises(ExportError, match=r"max_det=1.*expected.*max_det=100"):
        to_onnx.export_onnx(demo_checkpoint, tmp_path / "w.onnx", suppression=chosen, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_thresholds_without_nms_are_refused() -> None:
    from fastsam_deploy.export.cli.options import SuppressionOptions

    assert SuppressionOptions().suppression() is None
    assert SuppressionOptions(nms=True, max_det=7).suppression() == Suppression(0.001, 0.9, 7)
    with pytest.raises(ParameterError, match="--max-det given without --nms"):
        SuppressionOptions(max_det=7).suppression()
