"""Files that are built without PyTorch give what PyTorch gives, on photographs, in every size."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")

import torch
from torch import nn

from fastsam_deploy.export.checkpoint.load import load_checkpoint
from fastsam_deploy.export.direct.network import open_network
from fastsam_deploy.export.direct.to_onnx import export_direct
from fastsam_deploy.export.proof.inputs import batches_for, load_photographs
from fastsam_deploy.export.to_onnx import export_onnx
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec

pytestmark = pytest.mark.export

RELATIVE = 1e-4
"""Of the largest value of each kind of number: boxes in pixels, scores, mask coefficients, prototypes."""

Outputs = tuple[np.ndarray, np.ndarray]


def relative_differences(found: Outputs, expected: Outputs, classes: int) -> dict[str, float]:
    parts = {"boxes": slice(0, 4), "scores": slice(4, 4 + classes), "coefficients": slice(4 + classes, None)}
    pairs = {name: (found[0][:, part], expected[0][:, part]) for name, part in parts.items()}
    pairs["prototypes"] = (found[1], expected[1])
    assert all(a.shape == b.shape for a, b in pairs.values())
    return {name: float(np.abs(a - b).max() / np.abs(b).max()) for name, (a, b) in pairs.items()}


def outputs_of(path: Path, images: np.ndarray) -> Outputs:
    with open_engine(path) as engine:
        outputs = engine.run(images)
    return np.asarray(outputs["detections"]), np.asarray(outputs["prototypes"])


def photograph_batches(imgsz: int) -> list[np.ndarray]:
    return [batch.images for batch in batches_for(ModelSpec(imgsz=imgsz), load_photographs())]


def test_the_demo_checkpoint_equals_its_export_by_pytorch(demo_checkpoint: Path, tmp_path: Path) -> None:
    direct = export_direct(demo_checkpoint, tmp_path / "direct.onnx", imgsz=320)
    traced = export_onnx(demo_checkpoint, tmp_path / "traced.onnx", imgsz=320)
    assert direct.detections > 20
    for images in photograph_batches(320):
        expected = outputs_of(traced.path, images)
        differences = relative_differences(outputs_of(direct.path, images), expected, 1)
        assert max(differences.values()) < RELATIVE, differences


@pytest.mark.parametrize(
    ("size", "settings", "classes"),
    [
        ("s", {"reg_max": 26}, 1),
        ("x", {"reg_max": 26}, 1),
        ("n", {}, 80),
        pytest.param("m", {}, 3, marks=pytest.mark.slow),
        pytest.param("l", {"reg_max": 20}, 7, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_network_of_every_size_equals_the_checkpoint_in_pytorch(
    size: str,
    settings: dict[str, int],
    classes: int,
    random_network: Callable[..., Any],
    save: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """FastSAM's own heads have 26 bins and one class; the others are stock YOLOv8-seg, or neither."""
    path = save(random_network(f"yolov8{size}-seg.yaml", nc=classes, **settings))
    checkpoint = load_checkpoint(path)
    with open_network(path) as network:
        graph, _ = network.graph(18)
    onnx.save(graph, target := tmp_path / "direct.onnx")
    session = _session(target)
    for images in photograph_batches(160):
        found = tuple(session.run(None, {"images": images}))
        expected = checkpoint.run(images)
        assert expected[0][:, 4 : 4 + classes].std() > 0.02
        differences = relative_differences(found, expected, classes)
        assert max(differences.values()) < RELATIVE, differences


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path)


@pytest.mark.slow
def test_fastsam_x_equals_its_export_by_pytorch(
    random_network: Callable[..., Any], save: Callable[..., Path], tmp_path: Path
) -> None:
    path = save(random_network("yolov8x-seg.yaml", reg_max=26), "FastSAM-x.pt")
    direct = export_direct(path, tmp_path / "direct.onnx", imgsz=160)
    traced = export_onnx(path, tmp_path / "traced.onnx", imgsz=160)
    for images in photograph_batches(160):
        expected = outputs_of(traced.path, images)
        assert max(relative_differences(outputs_of(direct.path, images), expected, 1).values()) < RELATIVE


@pytest.mark.parametrize("opset", [13, 16, 18, 21, 23])
def test_the_graph_is_the_same_in_every_operator_set(
    opset: int, demo_checkpoint: Path, tmp_path: Path, photo_batch: np.ndarray
) -> None:
    proof = export_direct(demo_checkpoint, tmp_path / "m.onnx", imgsz=160, opset=opset)
    assert [entry.version for entry in onnx.load(proof.path).opset_import] == [opset]
    expected = load_checkpoint(demo_checkpoint).run(photo_batch)
    assert max(relative_differences(outputs_of(proof.path, photo_batch), expected, 1).values()) < RELATIVE


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 160, 32), (3, 96, 224), (5, 32, 32)])
def test_a_dynamic_file_takes_every_batch_height_and_width(
    shape: tuple[int, int, int], demo_checkpoint: Path, tmp_path: Path, photo_batch: np.ndarray
) -> None:
    with open_network(demo_checkpoint) as network:
        onnx.save(network.graph(18)[0], tmp_path / "m.onnx")
    batch, height, width = shape
    images = np.resize(photo_batch, (batch, 3, height, width))
    found = tuple(_session(tmp_path / "m.onnx").run(None, {"images": images}))
    expected = load_checkpoint(demo_checkpoint).run(images)
    assert max(relative_differences(found, expected, 1).values()) < RELATIVE


def test_a_fixed_file_has_fixed_shapes_and_the_same_results(
    demo_checkpoint: Path, tmp_path: Path, photo_batch: np.ndarray
) -> None:
    proof = export_direct(demo_checkpoint, tmp_path / "m.onnx", imgsz=(128, 160), dynamic=False, batch=2)
    graph = onnx.load(proof.path).graph
    shapes = [[d.dim_value for d in t.type.tensor_type.shape.dim] for t in (*graph.input, *graph.output)]
    anchors = sum((128 // stride) * (160 // stride) for stride in (8, 16, 32))
    assert shapes == [[2, 3, 128, 160], [2, 37, anchors], [2, 32, 32, 40]]
    assert not {node.op_type for node in graph.node} & {"Shape", "Range", "Expand", "Gather"}
    expected = load_checkpoint(demo_checkpoint).run(photo_batch)
    assert max(relative_differences(outputs_of(proof.path, photo_batch), expected, 1).values()) < RELATIVE


def test_names_axes_and_metadata_are_those_of_the_export_by_pytorch(demo_checkpoint: Path, tmp_path: Path) -> None:
    direct = onnx.load(export_direct(demo_checkpoint, tmp_path / "direct.onnx", imgsz=192).path)
    traced = onnx.load(export_onnx(demo_checkpoint, tmp_path / "traced.onnx", imgsz=192).path)
    for one, other in ((direct.graph.input, traced.graph.input), (direct.graph.output, traced.graph.output)):
        assert [tensor.SerializeToString() for tensor in one] == [tensor.SerializeToString() for tensor in other]
    assert direct.ir_version == traced.ir_version
    keys = [{entry.key: entry.value for entry in model.metadata_props} for model in (direct, traced)]
    specs = [ModelSpec.from_json(each.pop(METADATA_KEY)) for each in keys]
    assert keys[0] == keys[1]
    names = [field for field in ModelSpec.__dataclass_fields__ if field != "tools"]
    assert [getattr(specs[0], name) for name in names] == [getattr(specs[1], name) for name in names]
    weights = [
        {tensor.name for tensor in model.graph.initializer if tensor.name.startswith("model.")}
        for model in (direct, traced)
    ]
    assert weights[0] >= weights[1]  # calibration and TensorRT know the layers by the names of their weights


def test_the_file_says_what_it_was_compared_with(demo_checkpoint: Path, tmp_path: Path) -> None:
    proof = export_direct(demo_checkpoint, tmp_path / "m.onnx", imgsz=160)
    assert proof.findings
    assert all(finding.passed for finding in proof.findings)
    assert proof.spec.tools["compared"].startswith(f"with PyTorch {torch.__version__.split('+')[0]}")
    assert "torch" not in proof.spec.tools  # it did not shape the file


@pytest.mark.parametrize("settings", [{"half": True}, {"compact": True}], ids=str)
def test_half_and_compact_files_are_written_and_smaller(
    settings: dict[str, bool], demo_checkpoint: Path, tmp_path: Path, photo_batch: np.ndarray
) -> None:
    plain = export_direct(demo_checkpoint, tmp_path / "plain.onnx", imgsz=160)
    proof = export_direct(demo_checkpoint, tmp_path / "m.onnx", imgsz=160, **settings)
    assert proof.path.stat().st_size < 0.6 * plain.path.stat().st_size
    expected = load_checkpoint(demo_checkpoint).run(photo_batch)
    differences = relative_differences(outputs_of(proof.path, photo_batch), expected, 1)
    assert max(differences.values()) < (0.02 if "half" in settings else RELATIVE), differences


def test_weights_in_another_memory_layout_are_read(
    random_network: Callable[..., Any], save: Callable[..., Path], tmp_path: Path, photo_batch: np.ndarray
) -> None:
    network = random_network("yolov8n-seg.yaml")
    channels_last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    path = save(channels_last, "last.pt")
    weight = torch.load(path, weights_only=False)["model"].model[0].conv.weight
    assert not weight.is_contiguous()
    with open_network(path) as opened:
        onnx.save(opened.graph(18)[0], tmp_path / "m.onnx")
    found = tuple(_session(tmp_path / "m.onnx").run(None, {"images": photo_batch}))
    assert max(relative_differences(found, load_checkpoint(path).run(photo_batch), 1).values()) < RELATIVE


def test_a_checkpoint_of_2023_is_read(
    checkpoint_of_2023: tuple[Path, list[np.ndarray]], photo_batch: np.ndarray, tmp_path: Path
) -> None:
    path, expected = checkpoint_of_2023
    with open_network(path) as opened:
        onnx.save(opened.graph(18)[0], tmp_path / "m.onnx")
    found = tuple(_session(tmp_path / "m.onnx").run(None, {"images": photo_batch}))
    assert max(relative_differences(found, (expected[0], expected[1]), 1).values()) < RELATIVE


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_weights_of_other_types_are_read(
    kind: torch.dtype, random_network: Callable[..., Any], tmp_path: Path, photo_batch: np.ndarray
) -> None:
    network = random_network("yolov8n-seg.yaml").to(kind)
    torch.save({"model": network, "ema": None}, path := tmp_path / "typed.pt")
    with open_network(path) as opened:
        onnx.save(opened.graph(18)[0], tmp_path / "m.onnx")
    found = tuple(_session(tmp_path / "m.onnx").run(None, {"images": photo_batch}))
    assert max(relative_differences(found, load_checkpoint(path).run(photo_batch), 1).values()) < RELATIVE


def test_relu_in_place_of_silu_and_no_activation_are_built(
    random_network: Callable[..., Any], save: Callable[..., Path], tmp_path: Path, photo_batch: np.ndarray
) -> None:
    network = random_network("yolov8n-seg.yaml")
    network.model[1].act = nn.ReLU()
    network.model[3].act = nn.Identity()
    path = save(network)
    with open_network(path) as opened:
        onnx.save(opened.graph(18)[0], tmp_path / "m.onnx")
    found = tuple(_session(tmp_path / "m.onnx").run(None, {"images": photo_batch}))
    assert max(relative_differences(found, load_checkpoint(path).run(photo_batch), 1).values()) < RELATIVE
