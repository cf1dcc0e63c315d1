"""Equality with the reference: ultralytics on the same checkpoint, the same images, the same settings.

The checkpoint runs in ultralytics' own predictor with `retina_masks=True`; ours is the ONNX file that
`export_onnx` makes of it. Everything that follows the network is ours on one side and theirs on the other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

pytestmark = pytest.mark.export
ultralytics = pytest.importorskip("ultralytics", reason="the reference needs the extra [export]")

from fastsam_deploy.export.to_onnx import export_onnx  # noqa: E402
from fastsam_deploy.runtime import Boxes, FastSAM, Points, Segments  # noqa: E402

CONF, IOU = 0.4, 0.9


def _resized(image: NDArray[np.uint8], hw: tuple[int, int]) -> NDArray[np.uint8]:
    return cv2.resize(image, hw[::-1], interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def images(photographs: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """At least 30 RGB images: photographs, and the shipped ones cut and stretched into shapes that break geometry."""
    coffee, cat = photographs[:2]
    shapes = [(17, 9), (4000, 300), (300, 4000), (333, 517), (517, 333), (401, 777), (64, 64), (65, 64), (480, 640)]
    shapes += [
        (640, 427),
        (1080, 810),
        (33, 95),
        (1, 50),
        (719, 1279),
        (1500, 2000),
        (201, 603),
        (128, 127),
        (640, 640),
    ]
    made = [_resized((coffee, cat)[i % 2], shape) for i, shape in enumerate(shapes)]
    cuts = [coffee[:399, :599], coffee[17:, 31:], cat[:, 100:300], cat[50:], coffee[100:300], cat[:299, :450]]
    mirrored = [coffee[:, ::-1], cat[::-1], coffee.swapaxes(0, 1), cat.swapaxes(0, 1)]
    return photographs + [np.ascontiguousarray(image) for image in made + cuts + mirrored]


@pytest.fixture(scope="module")
def reference(demo_checkpoint: Path):
    """Their predictor: (image RGB, rect, prompts …) → their Results."""
    model = ultralytics.FastSAM(demo_checkpoint)

    def predict(image: NDArray[np.uint8], *, rect: bool = True, imgsz: int = 640, **prompts):
        bgr = np.ascontiguousarray(image[..., ::-1])
        settings = {"imgsz": imgsz, "conf": CONF, "iou": IOU, "retina_masks": True, "device": "cpu", "verbose": False}
        return model(bgr, rect=rect, **settings, **prompts)[0]

    return predict


@pytest.fixture(scope="module")
def ours(demo_checkpoint: Path, tmp_path_factory):
    path = tmp_path_factory.mktemp("parity") / "demo.onnx"
    export_onnx(demo_checkpoint, path, imgsz=640)
    return path


def _rles(masks: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return [coco.encode(np.asfortranarray(mask)) for mask in masks]


def _theirs(result) -> list[dict[str, Any]]:
    return [] if result.masks is None else _rles(result.masks.data.numpy().astype(np.uint8))


def _ious(found: Segments, theirs: list[dict[str, Any]]) -> NDArray[np.float64]:
    """(ours, theirs), by pycocotools."""
    return np.asarray(coco.iou(found.masks.rle(), theirs, [0] * len(theirs))).reshape(len(found), len(theirs))


def _matched_ious(found: Segments, result, what: str) -> list[float]:
    boxes, scores = result.boxes.xyxy.numpy(), result.boxes.conf.numpy()
    iou = _ious(found, _theirs(result))
    assert iou.shape == (len(scores), len(scores)), what
    # Scores that agree to the last digits may be ordered otherwise, and two detections can share a box:
    # each of ours takes the best mask among theirs of the same box and score that are not taken yet.
    free = set(range(len(scores)))
    ious = []
    for i, (box, score) in enumerate(zip(found.boxes_xyxy, found.scores, strict=True)):
        near = np.flatnonzero((np.abs(boxes - box).max(1) <= 0.5) & (np.abs(scores - score) <= 1e-3))
        assert free & set(near), f"{what}: none of theirs has the box {box} and the score {score}"
        best, chosen = max((iou[i, j], j) for j in free & set(near))
        free.remove(chosen)
        ious.append(best)
    return ious


@pytest.mark.parametrize("rect", [True, False], ids=["rectangle", "square"])
def test_same_detections_and_masks(reference, ours, images, rect):
    assert len(images) >= 30 and len({image.shape for image in images}) >= 25
    ious: list[float] = []
    with FastSAM(ours, conf=CONF, iou=IOU, rect=rect) as model:
        for i, image in enumerate(images):
            what = f"image {i} {image.shape}, rect={rect}"
            ious += _matched_ious(model.segment(image), reference(image, rect=rect), what)
    assert len(ious) > 100, "too few masks to prove anything"
    print(f"\n{len(images)} images, {len(ious)} masks, IoU mean {np.mean(ious):.6f}, minimum {min(ious):.6f}")
    assert np.mean(ious) >= 0.999
    assert min(ious) >= 0.99


def test_shipped_file(reference, demo_onnx, photographs):
    """It stores its weights compactly; the answers are those of the checkpoint all the same."""
    ious: list[float] = []
    with FastSAM(demo_onnx, conf=CONF, iou=IOU, imgsz=640) as model:
        for i, image in enumerate(photographs[:8]):
            ious += _matched_ious(model.segment(image), reference(image), f"photograph {i}")
    assert np.mean(ious) >= 0.999 and min(ious) >= 0.99


POINT_PROMPTS = [
    ([[300, 200]], [1]),
    ([[300, 200], [30, 30]], [1, 0]),
    ([[300, 200], [100, 300], [500, 80]], [1, 1, 1]),
    ([[300, 200], [310, 210]], [0, 0]),
    ([[10, 390], [590, 10], [300, 210]], [1, 1, 0]),
]


@pytest.mark.parametrize(("points", "labels"), POINT_PROMPTS)
def test_points_give_the_masks_of_ultralytics(reference, ours, photographs, points, labels):
    """Prompts lost after export: CASIA#273."""
    image = photographs[0]
    theirs = _theirs(reference(image, points=points, labels=labels))
    with FastSAM(ours, conf=CONF, iou=IOU) as model:
        everything = model.segment(image)
        apart = everything.select(Points(points, labels, mode="all"))
        merged = everything.select(Points(points, labels, clean=False))
    assert len(apart) == len(theirs)
    if theirs:
        assert (_ious(apart, theirs).diagonal() >= 0.99).all()
        assert _ious(merged, [coco.merge(theirs)]).item() >= 0.99


def test_boxes_give_the_masks_of_ultralytics(reference, ours, photographs):
    """Theirs is a set in the order of the masks; ours answers box by box."""
    image = photographs[0]
    boxes = [[200, 100, 450, 350], [0, 0, 300, 200], [350.7, 220.2, 599.9, 399.5], [200, 100, 450, 350]]
    with FastSAM(ours, conf=CONF, iou=IOU) as model:
        answers = model.segment(image).select(Boxes(boxes))
    assert answers.prompts.tolist() == [0, 1, 2, 3]
    for i, box in enumerate(boxes):
        assert _ious(answers[i], _theirs(reference(image, bboxes=[box]))).item() >= 0.99
