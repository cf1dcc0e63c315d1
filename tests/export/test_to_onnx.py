"""Checkpoint → ONNX: the contract holds, the file is equal to the checkpoint, and a wrong one never appears."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")

import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper

from fastsam_deploy.export import to_onnx
from fastsam_deploy.export.checkpoint.load import load_checkpoint
from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.export.graph import finish
from fastsam_deploy.export.proof.network import Proof
from fastsam_deploy.export.to_onnx import export_onnx
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.errors import MissingDependencyError, ParameterError
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.spec import METADATA_KEY

pytestmark = pytest.mark.export

# Of TensorRT's published operator table (onnx-tensorrt, docs/operators.md), those a YOLO network may meet.
TENSORRT_OPERATORS = re.compile(
    "Add|Cast|Concat|Constant|ConstantOfShape|Conv|ConvTranspose|Div|Expand|Gather|MatMul|MaxPool|Mul|Range|Reshape|"
    "Resize|Shape|Sigmoid|Slice|Softmax|Split|Squeeze|Sub|Transpose|Unsqueeze"
)


@pytest.fixture(scope="module")
def exported(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """The demo checkpoint with the defaults, but a small default size."""
    return export_onnx(demo_checkpoint, tmp_path_factory.mktemp("onnx") / "demo.onnx", imgsz=192)


@pytest.fixture(scope="module")
def variant(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Proof]:
    """The demo checkpoint exported in another way."""

    def export(name: str, **settings: Any) -> Proof:
        return export_onnx(demo_checkpoint, tmp_path_factory.mktemp(name) / f"{name}.onnx", **settings)

    return export


def foreign_to_tensorrt(path: Path) -> set[str]:
    """Operators of a file that TensorRT's parser may not have."""
    return {node.op_type for node in onnx.load(path).graph.node if not TENSORRT_OPERATORS.fullmatch(node.op_type)}


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Tensor name → element type, for every tensor."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return known | {weight.name: weight.data_type for weight in graph.initializer}


def test_names_axes_and_types_are_those_of_the_contract(exported: Proof) -> None:
    graph = onnx.load(exported.path).graph
    found = {
        tensor.name: [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim]
        for tensor in (*graph.input, *graph.output)
    }
    assert found == {
        "images": ["batch", 3, "height", "width"],
        "output0": ["batch", 37, "anchors"],
        "output1": ["batch", 32, "mask_height", "mask_width"],
    }
    kinds = {tensor.type.tensor_type.elem_type for tensor in (*graph.input, *graph.output)}
    assert kinds == {TensorProto.FLOAT}


def test_the_spec_in_the_file_says_what_it_is(exported: Proof, demo_checkpoint: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    spec = json.loads(metadata[METADATA_KEY])
    assert spec["checkpoint_sha256"] == load_checkpoint(demo_checkpoint).sha256
    assert (spec["imgsz"], spec["precision"], spec["batch"], spec["size_hw"]) == (192, "fp32", None, [None, None])
    assert spec["tools"]["torch"] == torch.__version__.split("+")[0]
    assert {"fastsam-deploy", "ultralytics", "onnx", "onnxslim"} <= set(spec["tools"])
    assert metadata["license"].startswith("AGPL")
    with open_engine(exported.path) as engine:
        assert engine.spec == exported.spec


def test_the_file_tells_nothing_about_the_machine_that_made_it(exported: Proof) -> None:
    raw = exported.path.read_bytes()
    for word in (b".py", b"site-packages", b"stack_trace", str(Path.home()).encode() + b"/", b"/tmp/"):
        assert word not in raw, word


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 160, 32), (3, 96, 224), (5, 32, 32), (1, 416, 288)])
def test_every_batch_height_and_width_gives_the_checkpoints_answer(
    exported: Proof, demo_checkpoint: Path, shape: tuple[int, int, int], photo_batch: np.ndarray
) -> None:
    """Apart from validation: other sizes, compared here and by other means."""
    batch, height, width = shape
    tiled = np.tile(photo_batch, (3, 1, 4, 3))[:batch, :, :height, :width].copy()
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    detections, prototypes = session.run(["output0", "output1"], {"images": tiled})
    reference = load_checkpoint(demo_checkpoint).run(tiled)
    anchors = sum((height // s) * (width // s) for s in (8, 16, 32))
    assert detections.shape == (batch, 37, anchors)
    assert prototypes.shape == (batch, 32, height // 4, width // 4)
    np.testing.assert_allclose(detections, reference[0], atol=0.01)
    np.testing.assert_allclose(detections[:, 4], reference[0][:, 4], atol=1e-5)
    np.testing.assert_allclose(prototypes, reference[1], atol=1e-4)


def test_validation_ran_at_batch_3_and_at_two_sizes(exported: Proof) -> None:
    assert 3 in {shape[0] for shape in exported.shapes}
    assert len({shape[2:] for shape in exported.shapes}) >= 2
    assert exported.detections > 10
    assert [finding.what for finding in exported.findings][-2:] == ["mask IoU, least", "mask IoU, mean"]


def test_ultralytics_opens_the_file_and_finds_the_same_masks(
    exported: Proof, demo_checkpoint: Path, coffee: Path
) -> None:
    from ultralytics import FastSAM as UltralyticsFastSAM

    settings = {"imgsz": 192, "conf": 0.25, "iou": 0.9, "retina_masks": True, "verbose": False, "device": "cpu"}
    ours = UltralyticsFastSAM(exported.path)(coffee, **settings)[0]
    reference = UltralyticsFastSAM(demo_checkpoint)(coffee, **settings)[0]
    assert ours.names == reference.names
    assert len(ours) == len(reference) > 3
    np.testing.assert_allclose(ours.boxes.data.numpy(), reference.boxes.data.numpy(), atol=0.02)
    assert float((ours.masks.data != reference.masks.data).float().mean()) < 1e-4


def test_the_graph_keeps_to_operators_and_types_that_tensorrt_takes(exported: Proof) -> None:
    model = onnx.load(exported.path)
    assert foreign_to_tensorrt(exported.path) == set()
    assert {entry.domain for entry in model.opset_import} == {""}
    assert set(types_of(model).values()) <= {TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL}
    weights = {weight.name for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            assert node.input[1] in weights, f"{node.name}: the weights are computed"


def test_half_computes_in_fp16_up_to_the_head_and_decodes_in_fp32(variant: Callable[..., Proof]) -> None:
    proof = variant("half", imgsz=192, half=True)
    model = onnx.load(proof.path)
    types = types_of(model)
    kinds = {node.name: types[node.output[0]] for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    high = [node for node in convolutions if kinds[node.name] == TensorProto.FLOAT]
    assert len(high) == 2  # the first, and the mean of the box distribution
    assert high[0] == convolutions[0]
    assert len(convolutions) > 60
    assert all(kinds[node.name] == TensorProto.FLOAT for node in model.graph.node if node.op_type == "Softmax")
    assert {types[name] for name in ("images", "output0", "output1")} == {TensorProto.FLOAT}
    assert proof.spec.precision == "fp16"
    assert foreign_to_tensorrt(proof.path) == set()
    assert next(f for f in proof.findings if f.what == "mask IoU, mean").worst >= 0.98
    assert proof.path.stat().st_size < 7_000_000


def test_half_passes_at_the_size_of_fastsam(demo_checkpoint: Path, tmp_path: Path) -> None:
    """1024 × 1024, the size of FastSAM, and what photographs of other shapes become; once a box was 2.06 px off."""
    proof = export_onnx(demo_checkpoint, tmp_path / "half.onnx", imgsz=1024, half=True)
    worst = {finding.what: finding.worst for finding in proof.findings}
    assert proof.spec.imgsz == 1024
    assert worst["boxes (px)"] < 1.2
    assert worst["boxes of detections (px)"] < 0.6


def test_compact_halves_the_file_without_changing_a_number(
    variant: Callable[..., Proof], exported: Proof, photo_batch: np.ndarray
) -> None:
    proof = variant("compact", imgsz=192, compact=True)
    assert proof.path.stat().st_size < 0.52 * exported.path.stat().st_size
    assert proof.spec.precision == "fp32"
    types = types_of(onnx.load(proof.path))
    for node in onnx.load(proof.path).graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            assert {types[name] for name in node.input} == {TensorProto.FLOAT}
    with open_engine(proof.path) as compact, open_engine(exported.path) as plain:
        ours, reference = compact.run(photo_batch), plain.run(photo_batch)
    np.testing.assert_allclose(ours["detections"], reference["detections"], atol=5e-3)
    np.testing.assert_allclose(ours["detections"][:, 4:], reference["detections"][:, 4:], atol=2e-5)
    np.testing.assert_allclose(ours["prototypes"], reference["prototypes"], atol=5e-5)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_fixed_file_takes_its_size_and_no_other(variant: Callable[..., Proof], exporter: str, cat: Path) -> None:
    proof = variant(exporter, imgsz=(96, 160), dynamic=False, batch=2, exporter=exporter)
    assert proof.spec.batch == 2
    assert proof.spec.fixed_hw == (96, 160)
    assert set(proof.shapes) == {(2, 3, 96, 160)}
    assert foreign_to_tensorrt(proof.path) == set()
    with open_engine(proof.path) as engine:
        with pytest.raises(ParameterError, match="the model takes"):
            engine.run(np.zeros((1, 3, 96, 160), np.float32))
        with FastSAM(engine, conf=0.25) as model:
            assert len(model.segment(cat)) > 0


@pytest.mark.parametrize(
    ("config", "nc"),
    [pytest.param("yolo11n-seg.yaml", 80, id="YOLO11, attention"), pytest.param("yolo26n-seg.yaml", 3, id="YOLO26")],
)
@pytest.mark.parametrize("half", [False, True])
def test_other_segmentation_networks_export_too(
    config: str, nc: int, half: bool, random_network: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    path = save(random_network(config, nc=nc))
    proof = export_onnx(path, tmp_path / "o.onnx", imgsz=96, half=half, exporter="torchscript", simplify=False)
    assert proof.spec.class_names == tuple(f"thing {i}" for i in range(nc))
    assert proof.spec.layout == "raw"


def weight_off(model: onnx.ModelProto) -> None:
    """One weight of one layer is 2 % too large."""
    weight = next(w for w in model.graph.initializer if w.name.endswith("model.9.cv1.conv.weight"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.02), weight.name))


def not_a_number(model: onnx.ModelProto) -> None:
    weight = next(w for w in model.graph.initializer if w.name.endswith("cv4.0.2.bias"))
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32("nan"), weight.name))


def names_swapped(model: onnx.ModelProto) -> None:
    swap = {"output0": "output1", "output1": "output0"}
    for node in model.graph.node:
        node.output[:] = [swap.get(name, name) for name in node.output]
    first, second = model.graph.output
    first.name, second.name = second.name, first.name


def input_renamed(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.input[:] = ["pictures" if name == "images" else name for name in node.input]
    model.graph.input[0].name = "pictures"


def boxes_shifted(model: onnx.ModelProto) -> None:
    """A quarter of a pixel more, in the last step of decoding: too little to see in a picture."""
    last = next(node for node in model.graph.node if "output0" in node.output)
    last.output[0] = "unshifted"
    shift = np.zeros((1, 37, 1), np.float32)
    shift[:, 0] = 0.25
    model.graph.initializer.append(numpy_helper.from_array(shift, "shift"))
    model.graph.node.append(onnx.helper.make_node("Add", ["unshifted", "shift"], ["output0"], "shifted"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(weight_off, r"scores [\d.e-]+ at input .*expected at most 0.0001", id="a weight is 2 % off"),
        pytest.param(not_a_number, r"detections at input .*: \d+ values are NaN", id="NaN"),
        pytest.param(names_swapped, r"detections is 'output1', expected 'output0'", id="output names swapped"),
        pytest.param(input_renamed, "input is 'pictures', expected 'images'", id="input renamed"),
        pytest.param(boxes_shifted, r"boxes \(px\) 0\.25\d* at input .*expected at most 0\.05", id="boxes shifted"),
    ],
)
def test_a_wrong_file_is_refused_with_its_numbers_and_not_kept(
    fault: Callable[[onnx.ModelProto], None],
    said: str,
    demo_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = finish.tidied

    def damaged(model: onnx.ModelProto, **settings: Any) -> onnx.ModelProto:
        model = whole(model, **settings)
        fault(model)
        return model

    monkeypatch.setattr(finish, "tidied", damaged)
    target = tmp_path / "m.onnx"
    target.write_bytes(b"the good one from yesterday")
    with pytest.raises(ExportError) as caught:
        export_onnx(demo_checkpoint, target, imgsz=128, exporter="torchscript", simplify=False)
    assert re.search(said, str(caught.value)), caught.value
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert target.read_bytes() == b"the good one from yesterday"


def test_all_failures_are_reported_at_once(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finish.tidied

    def damaged(model: onnx.ModelProto, **settings: Any) -> onnx.ModelProto:
        model = whole(model, **settings)
        weight_off(model)
        boxes_shifted(model)
        return model

    monkeypatch.setattr(finish, "tidied", damaged)
    with pytest.raises(ExportError, match=r"boxes.*scores.*coefficients"):
        export_onnx(demo_checkpoint, tmp_path / "m.onnx", imgsz=128, exporter="torchscript", simplify=False)


def test_an_interrupted_export_leaves_nothing(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(to_onnx, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(demo_checkpoint, tmp_path / "m.onnx", imgsz=64, exporter="torchscript", simplify=False)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_leaves_nothing(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(graph: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(to_onnx.onnx, "save", full)
    with pytest.raises(ExportError, match=r"m\.onnx: cannot be written \(No space left on device\); make room"):
        export_onnx(demo_checkpoint, tmp_path / "made/m.onnx", imgsz=64, exporter="torchscript", simplify=False)
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"imgsz": 100}, "imgsz is 100.*use 96 or 128"),
        ({"imgsz": (96, 70)}, "imgsz is 70.*use 64 or 96"),
        ({"imgsz": 0}, "imgsz is 0"),
        ({"batch": 4}, "batch is 4 in a dynamic export"),
        ({"batch": 0, "dynamic": False}, "batch is 0"),
        ({"opset": 12}, "opset is 12.*18 to"),
        ({"opset": 99}, "opset is 99"),
        ({"exporter": "magic"}, "exporter is 'magic'"),
        ({"half": True, "compact": True}, "half and compact"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(
    settings: dict[str, Any], said: str, demo_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=said):
        export_onnx(demo_checkpoint, tmp_path / "m.onnx", **settings)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_or_read_are_named(demo_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"ends in \.onnx"):
        export_onnx(demo_checkpoint, tmp_path / "m.engine")
    with pytest.raises(ExportError, match="holds no photograph"):
        export_onnx(demo_checkpoint, tmp_path / "m.onnx", images=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export_onnx(demo_checkpoint, tmp_path / "file/m.onnx", imgsz=64, exporter="torchscript", simplify=False)


def test_photographs_of_ones_own_are_compared_on(demo_checkpoint: Path, tmp_path: Path, coffee: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "one.jpg").write_bytes(coffee.read_bytes())
    proof = export_onnx(
        demo_checkpoint, tmp_path / "m.onnx", imgsz=96, exporter="torchscript", simplify=False, images=folder
    )
    assert proof.shapes == ((1, 3, 64, 96), (3, 3, 32, 32))


def test_the_opset_is_the_one_asked_for(variant: Callable[..., Proof]) -> None:
    proof = variant("old", imgsz=64, opset=13, exporter="torchscript", simplify=False)
    assert [entry.version for entry in onnx.load(proof.path).opset_import] == [13]


def test_the_shipped_file_was_made_from_the_shipped_checkpoint(demo_checkpoint: Path) -> None:
    """After training: python -m scripts.demo_model.export."""
    shipped = demo_checkpoint.with_suffix(".onnx")
    assert shipped.stat().st_size <= 8_000_000
    with open_engine(shipped) as engine:
        assert engine.spec.checkpoint_sha256 == hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
        assert (engine.spec.precision, engine.spec.batch, engine.spec.size_hw) == ("fp32", None, (None, None))
        assert engine.spec.imgsz == 640


def test_without_an_engine_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[export] brings none, as [cpu] and [gpu] exclude each other."""
    monkeypatch.setattr("fastsam_deploy.runtime.engines.registry.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"no engine for .onnx files .* run: pip install .*\[cpu\]"):
        export_onnx(tmp_path / "absent.pt", tmp_path / "out.onnx")
