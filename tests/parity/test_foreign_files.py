"""ONNX files that ultralytics itself exports open, and give the masks that ultralytics gives with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.export
ultralytics = pytest.importorskip("ultralytics", reason="the reference needs the extra [export]")

from fastsam_deploy.runtime import FastSAM  # noqa: E402


@pytest.fixture(scope="module")
def checkpoints(demo_checkpoint: Path, photographs, tmp_path_factory) -> dict[int, Path]:
    """nc → checkpoint: the demo model, and one of 80 classes: the demo's weights with a random class branch."""
    import torch

    folder = tmp_path_factory.mktemp("foreign")
    shutil.copy(demo_checkpoint, folder / "demo.pt")
    torch.manual_seed(0)
    model = ultralytics.YOLO("yolov8n-seg.yaml").load(demo_checkpoint)
    branches = model.model.model[-1].cv3
    with torch.no_grad():
        for branch in branches:
            branch[-1].weight.normal_(0, 0.25)
            branch[-1].bias.fill_(-3.0)
        # Random layers need the statistics of real images, or their output is the same everywhere.
        for branch in branches.modules():
            if isinstance(branch, torch.nn.BatchNorm2d):
                branch.momentum = None
                branch.reset_running_stats()
        model.model.eval()
        branches.train()
        for image in photographs[:2]:
            pixels = np.ascontiguousarray(image[:256, :320].transpose(2, 0, 1))
            model.model(torch.from_numpy(pixels)[None].float() / 255)
        model.model.eval()
    model.save(folder / "random80.pt")
    return {1: folder / "demo.pt", 80: folder / "random80.pt"}


VARIANTS = {
    "plain fixed": {},
    "plain dynamic": {"dynamic": True, "batch": 4},
    "half": {"half": True},
    "nms fixed": {"nms": True, "conf": 0.25, "iou": 0.7},
    "nms dynamic": {"nms": True, "dynamic": True, "batch": 4, "conf": 0.25, "iou": 0.7},
}


@pytest.mark.parametrize("nc", [1, 80])
@pytest.mark.parametrize("variant", VARIANTS)
def test_foreign_onnx_gives_the_masks_of_ultralytics(checkpoints, photographs, tmp_path, nc, variant):
    source = shutil.copy(checkpoints[nc], tmp_path / "model.pt")
    exported = ultralytics.YOLO(source).export(format="onnx", imgsz=320, verbose=False, **VARIANTS[variant])
    theirs = ultralytics.YOLO(exported, task="segment")
    compared = 0
    with FastSAM(exported, conf=0.25, iou=0.7) as model:
        assert model.spec.class_count == nc
        assert model.spec.layout == ("nms" if "nms" in VARIANTS[variant] else "raw")
        assert model.spec.precision == ("fp16" if "half" in VARIANTS[variant] else "fp32")
        for image in photographs[:2]:
            bgr = np.ascontiguousarray(image[..., ::-1])
            result = theirs(bgr, imgsz=320, conf=0.25, iou=0.7, retina_masks=True, device="cpu", verbose=False)[0]
            found = model.segment(image)
            assert len(found) == len(result)
            if not len(result):
                continue
            order = np.lexsort((found.boxes_xyxy[:, 0], -found.scores))
            assert np.abs(found.scores[order] - np.sort(result.boxes.conf.numpy())[::-1]).max() <= 1e-3
            for mask, number, score in zip(found.masks, found.classes, found.scores, strict=True):
                near = np.flatnonzero(
                    (result.boxes.cls.numpy() == number) & (np.abs(result.boxes.conf.numpy() - score) <= 1e-3)
                )
                others = result.masks.data.numpy()[near].astype(bool)
                assert max((mask & other).sum() / (mask | other).sum() for other in others) >= 0.99
                compared += 1
    assert compared > 0, "nothing was detected: this proves nothing"
