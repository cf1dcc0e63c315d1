"""Files whose boxes the runtime decodes give what the checkpoint gives, in every engine, and what reads them knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")

from fastsam_deploy.export.checkpoint.load import load_checkpoint
from fastsam_deploy.export.cli.main import main
from fastsam_deploy.export.direct.to_onnx import export_direct
from fastsam_deploy.export.proof.inputs import batches_for, load_photographs
from fastsam_deploy.export.proof.outputs import run_to_raw
from fastsam_deploy.export.quantize.to_int8 import quantize_model
from fastsam_deploy.export.triton.to_triton import build_repository
from fastsam_deploy.runtime import FastSAM, Segments
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.errors import ParameterError
from fastsam_deploy.runtime.masks.overlap import mask_iou
from fastsam_deploy.runtime.spec import METADATA_KEY, ModelSpec
from fastsam_deploy.runtime.suppression import Suppression

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def undecoded(demo_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("undecoded") / "undecoded.onnx"
    proof = export_direct(demo_checkpoint, target, imgsz=320, decoded=False)
    assert proof.findings, "compared with PyTorch"
    assert proof.detections == proof.detections_exported > 20
    return target


def same_segments(segments: Segments, expected: Segments) -> None:
    assert len(segments) == len(expected) > 5
    np.testing.assert_allclose(segments.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose(segments.scores, expected.scores, atol=1e-5)
    ious = [mask_iou(segments.masks, i, expected.masks, i) for i in range(len(segments))]
    assert min(ious) > 0.99
    assert np.mean(ious) > 0.9999


@pytest.mark.parametrize("settings", [{}, {"engine": "openvino", "precision": "fp32"}], ids=["onnxruntime", "openvino"])
def test_segments_of_photographs(
    undecoded: Path, demo_onnx: Path, coffee: Path, cat: Path, settings: dict[str, str]
) -> None:
    if settings:
        pytest.importorskip("openvino", reason="needs the extra [openvino]")
    with (
        FastSAM(undecoded, imgsz=320, conf=0.3, **settings) as model,  # type: ignore[arg-type]
        FastSAM(demo_onnx, imgsz=320, conf=0.3, **settings) as decoded,  # type: ignore[arg-type]
    ):
        for image in (coffee, cat):
            same_segments(model.segment(image), decoded.segment(image))


@pytest.mark.parametrize(("size", "settings", "classes"), [("s", {"reg_max": 26}, 1), ("n", {}, 80)], ids=["s", "n80"])
def test_networks_with_other_heads_equal_the_checkpoint_in_pytorch(
    size: str,
    settings: dict[str, int],
    classes: int,
    random_network: Callable[..., Any],
    save: Callable[..., Path],
    tmp_path: Path,
) -> None:
    path = save(random_network(f"yolov8{size}-seg.yaml", nc=classes, **settings))
    checkpoint = load_checkpoint(path)
    export_direct(path, target := tmp_path / "file.onnx", imgsz=160, decoded=False)
    with open_engine(target) as engine:
        assert engine.spec.bins == settings.get("reg_max", 16)
        for batch in batches_for(ModelSpec(imgsz=160), load_photographs()):
            outputs, expected = run_to_raw(engine, batch.images), checkpoint.run(batch.images)
            for values, true in zip((outputs["detections"], outputs["prototypes"]), expected, strict=True):
                assert values.shape == true.shape
            assert np.abs(outputs["detections"][:, :4] - expected[0][:, :4]).max() < 0.05
            assert np.abs(outputs["detections"][:, 4:] - expected[0][:, 4:]).max() < 1e-3


@pytest.mark.parametrize("given", [{"dynamic": False, "batch": 2}, {"half": True}, {"compact": True}, {"opset": 13}])
def test_other_settings(demo_checkpoint: Path, tmp_path: Path, given: dict[str, Any]) -> None:
    proof = export_direct(demo_checkpoint, tmp_path / "file.onnx", imgsz=160, decoded=False, **given)
    assert (proof.spec.layout, proof.spec.bins, proof.spec.strides) == ("distributions", 16, (8, 16, 32))


def test_nothing_is_decoded_in_the_graph(undecoded: Path) -> None:
    operators = {node.op_type for node in onnx.load(undecoded).graph.node}
    assert "Softmax" not in operators
    assert "Transpose" not in operators


def test_int8_and_a_repository(undecoded: Path, tmp_path: Path, coffee: Path) -> None:
    proof = quantize_model(undecoded, tmp_path / "int8.onnx", coffee.parent, target="cpu")
    assert (proof.spec.layout, proof.spec.precision) == ("distributions", "int8")
    repository = build_repository(undecoded, tmp_path / "repository")
    config = (repository.path / "fastsam_engine" / "config.pbtxt").read_text()
    assert "dims: [ 97, -1 ]" in config


def test_nms_in_the_graph_is_refused(demo_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="leave out one of --nms and --undecoded"):
        export_direct(demo_checkpoint, tmp_path / "x.onnx", decoded=False, suppression=Suppression(0.4, 0.9, 100))


def test_the_command_needs_direct(
    demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fastsam-export", "onnx", str(demo_checkpoint), "--undecoded"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "add --direct" in capsys.readouterr().err


def test_ultralytics_stops_at_the_file(undecoded: Path, coffee: Path) -> None:
    """It would take the distributions for scores of 61 classes."""
    from ultralytics import YOLO

    with pytest.raises(Exception, match=r"segment, distributions"):
        YOLO(str(undecoded)).predict(str(coffee), imgsz=320, verbose=False)


def test_a_file_without_our_metadata_is_no_file_of_the_layout(undecoded: Path, tmp_path: Path) -> None:
    model = onnx.load(undecoded)
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, path := tmp_path / "bare.onnx")
    with pytest.raises(Exception, match="61 classes"):
        open_engine(path)
