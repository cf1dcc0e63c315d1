"""Networks in checkpoints: what is not a YOLOv8 segmentation network is refused by name, and nothing is run."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("ultralytics", reason="needs the extra [export]: ultralytics is not installed")

import torch
from torch import nn
from ultralytics.nn.modules import C2f, Concat, Conv
from ultralytics.nn.tasks import DetectionModel

from fastsam_deploy.export.checkpoint.load import load_checkpoint
from fastsam_deploy.export.direct.network import open_network
from fastsam_deploy.export.direct.to_onnx import export_direct
from fastsam_deploy.export.errors import ExportError

pytestmark = pytest.mark.export


class Payload:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def test_what_a_checkpoint_says_is_what_pytorch_reads(demo_checkpoint: Path) -> None:
    loaded = load_checkpoint(demo_checkpoint)
    with open_network(demo_checkpoint) as network:
        assert (network.sha256, network.license, network.class_names, network.stride, network.mask_dim) == (
            loaded.sha256,
            loaded.license,
            loaded.class_names,
            loaded.stride,
            loaded.mask_dim,
        )


def test_the_averaged_network_is_taken_where_there_is_one(
    random_network: Callable[..., Any], save: Callable[..., Path]
) -> None:
    network, averaged = random_network("yolov8n-seg.yaml"), random_network("yolov8n-seg.yaml")
    averaged.names = {0: "averaged"}
    with open_network(save(network, ema=averaged.half())) as opened:
        assert opened.class_names == ("averaged",)


def test_the_state_of_a_trainer_is_passed_over(random_network: Callable[..., Any], save: Callable[..., Path]) -> None:
    network = random_network("yolov8n-seg.yaml")
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    path = save(network, optimizer=optimizer.state_dict(), best_fitness=0.5, train_results={"loss": [1.0, 0.5]})
    with open_network(path) as opened:
        assert opened.class_names == ("thing 0",)


def head_of(network: Any) -> Any:
    return network.model[-1]


def weight_of(network: Any, place: int) -> torch.Tensor:
    return network.model[place].conv.weight.data


CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an unknown layer": (
        lambda n: setattr(n.model[4].m[0].cv1, "act", nn.Hardswish()),
        r"layer model\.4\.m\.0\.cv1\.act of the kind Hardswish, expected .*C2f",
    ),
    "a block of another kind": (
        lambda n: n.model.__setitem__(2, _with_place(nn.Conv3d(3, 3, 1), n.model[2])),
        "model.2 of the kind Conv3d",
    ),
    "a loop of layers": (lambda n: setattr(n.model[2].cv1, "act", _loop()), "without end|more than"),
    "layers without an end": (lambda n: setattr(n.model[2].cv1, "act", _nested(30)), "more than 20,000 layers"),
    "NaN": (lambda n: weight_of(n, 1).fill_(float("nan")), r"NaN or Inf in model\.1\.conv\.weight"),
    "other channels": (
        lambda n: setattr(n.model[1].conv, "weight", nn.Parameter(torch.zeros(32, 7, 3, 3))),
        r"model\.1\.conv \(Conv2d\) with weights \(32, 7, 3, 3\)",
    ),
    "a missing layer": (lambda n: n.model[4].__delattr__("cv2"), r"no cv2 in model\.4 \(C2f\)"),
    "an input from later layers": (lambda n: setattr(n.model[3], "f", 20), "model.3 .Conv. with inputs that are no"),
    "Concat of rows": (lambda n: setattr(n.model[11], "d", 2), r"d 2 in model\.11 \(Concat\), expected 1"),
    "bilinear": (lambda n: setattr(n.model[10], "mode", "bilinear"), r"mode 'bilinear' in model\.10"),
    "reflecting": (lambda n: setattr(n.model[0].conv, "padding_mode", "reflect"), "padding_mode 'reflect'"),
    "a DFL that was trained": (lambda n: head_of(n).dfl.conv.weight.data.mul_(2), r"weights in model\.22\.dfl"),
    "other classes": (lambda n: setattr(n, "names", {0: "a", 1: "b"}), "names for other classes than the 1"),
    "an end-to-end head": (lambda n: setattr(head_of(n), "one2one_cv2", head_of(n).cv2), "end-to-end head"),
    "a stride of a half": (lambda n: setattr(head_of(n), "stride", torch.tensor([0.5, 16, 32])), "strides"),
    "an expanded weight": (
        lambda n: setattr(n.model[1].conv, "weight", nn.Parameter(torch.zeros(1, 1, 1, 1).expand(32, 16, 3, 3))),
        "side by side",
    ),
    "no variance": (lambda n: n.model[1].bn.running_var.fill_(-1), "variance that is not positive"),
}


def _loop() -> nn.Module:
    layers = nn.Sequential(nn.Identity())
    layers.add_module("1", layers)
    return layers


def _nested(depth: int) -> nn.Module:
    """Twice the same within twice the same: 2 ** depth layers in a few hundred bytes."""
    layer: nn.Module = nn.Identity()
    for _ in range(depth):
        layer = nn.Sequential(layer, layer)
    return layer


def _with_place(layer: Any, other: Any) -> Any:
    layer.f, layer.i, layer.type = other.f, other.i, "x"
    return layer


@pytest.mark.parametrize("name", CHANGES)
def test_a_network_that_is_not_known_is_refused_by_name(
    name: str, random_network: Callable[..., Any], tmp_path: Path
) -> None:
    change, said = CHANGES[name]
    network = random_network("yolov8n-seg.yaml").half()
    change(network)
    torch.save({"model": network}, path := tmp_path / "random.pt")
    with pytest.raises(ExportError, match=said) as caught:
        export_direct(path, tmp_path / "m.onnx", imgsz=64)
    assert "random.pt" in str(caught.value)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [("yolo11n-seg.yaml", "C3k2"), ("yolo26n-seg.yaml", "Segment26"), ("yolov9c-seg.yaml", "ELAN|RepNCSPELAN4|ADown")],
)
def test_other_families_are_refused_by_their_first_unknown_layer(
    config: str, said: str, save: Callable[..., Path], tmp_path: Path
) -> None:
    from ultralytics.nn.tasks import SegmentationModel

    with pytest.raises(ExportError, match=f"({said}).*leave --direct out"):
        export_direct(save(SegmentationModel(config, verbose=False)), tmp_path / "m.onnx")


def test_a_detector_is_refused(save: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has a DetectionModel, expected a SegmentationModel"):
        export_direct(save(DetectionModel("yolov8n.yaml", verbose=False)), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {"layer.weight": torch.zeros(2)}}, "no network under 'model'"),
        ({"epoch": 3}, "no network under 'model'"),
        ([1, 2], "no network under 'model'"),
        ({"model": Conv(3, 8)}, "has a Conv, expected a SegmentationModel"),
        ({"model": nn.Sequential(Conv(3, 8), C2f(8, 8), Concat())}, "has a Sequential"),
        ({"notes": collections.deque([1])}, r"names collections\.deque"),
    ],
    ids=["weights only", "nothing", "a list", "a layer", "layers", "a deque"],
)
def test_another_content_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(ExportError, match=said):
        export_direct(tmp_path / "m.pt", tmp_path / "m.onnx")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_program_in_a_checkpoint_is_named_and_not_run(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    torch.save({"model": Payload(os.system, f"touch {mark}")}, tmp_path / "evil.pt", pickle_protocol=protocol)
    with pytest.raises(ExportError, match=rf"evil\.pt: names {os.name}\.system.*nothing in it was run"):
        export_direct(tmp_path / "evil.pt", tmp_path / "m.onnx")
    assert not mark.exists()


def test_a_layer_that_is_called_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Payload(nn.Conv2d, 3, 8, 1)}, tmp_path / "m.pt")
    with pytest.raises(ExportError, match=r"calls Conv2d\(…\) instead of restoring one"):
        export_direct(tmp_path / "m.pt", tmp_path / "m.onnx")


def test_a_file_of_torch_before_1_6_is_refused_by_that(demo_checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(demo_checkpoint, weights_only=False)
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ExportError, match=r"old\.pt: is a file that torch wrote before version 1\.6.*--direct out"):
        export_direct(tmp_path / "old.pt", tmp_path / "m.onnx")
