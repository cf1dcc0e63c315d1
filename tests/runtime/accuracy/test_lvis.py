"""LVIS annotates some classes only in each image. Recall must not depend on that, and be that of LVIS's own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from fastsam_deploy.runtime import Masks
from fastsam_deploy.runtime.accuracy.coco_data import CocoData, mask_of, read_coco
from fastsam_deploy.runtime.accuracy.proposals import score_proposals

HW = (200, 300)


def _rectangle(rng: np.random.Generator) -> tuple[int, int, int, int]:
    x, y = int(rng.integers(0, 260)), int(rng.integers(0, 170))
    return x, y, int(rng.integers(8, 300 - x)), int(rng.integers(8, 200 - y))


def _polygon(x: int, y: int, w: int, h: int) -> list[list[float]]:
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def _document() -> dict[str, Any]:
    """Five images in the format of LVIS v1; the last one has no annotation."""
    rng = np.random.default_rng(5)
    images, annotations = [], []
    for image in range(1, 6):
        images.append({
            "id": image, "height": HW[0], "width": HW[1], "neg_category_ids": [3], "not_exhaustive_category_ids": [1],
            "coco_url": f"http://images.cocodataset.org/val2017/{image:012}.jpg", "license": 1, "date_captured": "",
        })  # fmt: skip
        for _ in range(0 if image == 5 else 12):
            x, y, w, h = _rectangle(rng)
            category = int(rng.integers(1, 3))
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": category, "area": float(w * h),
                "bbox": [float(x), float(y), float(w), float(h)], "segmentation": _polygon(x, y, w, h),
            })  # fmt: skip
        if annotations and image == 2:  # LVIS has an object once for each of its classes
            annotations.append({**annotations[-1], "id": len(annotations) + 1, "category_id": 3})
    categories = [
        {"id": i, "name": f"c{i}", "frequency": "f", "synset": "", "synonyms": [], "def": ""} for i in (1, 2, 3)
    ]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _proposals(data: CocoData) -> dict[int, dict[str, Any]]:
    """Annotated rectangles that are moved a little, and others that are wrong."""
    rng = np.random.default_rng(6)
    kept = {}
    for image in data.images:
        boxes = [[int(value) for value in each["bbox"]] for each in data.annotations.get(image.id, ())]
        moved = [(x + int(rng.integers(0, 6)), y, w, h + int(rng.integers(0, 6))) for x, y, w, h in boxes]
        every = [*moved, *(_rectangle(rng) for _ in range(20))]
        dense = np.array([mask_of({"segmentation": _polygon(*box)}, HW) for box in every])
        kept[image.id] = {
            "boxes": [list(map(float, box)) for box in every],
            "scores": rng.permutation(len(every)).astype(float).tolist(),
            "masks": [rle["counts"] for rle in Masks.from_dense(dense).rle()],
        }
    return kept


@pytest.fixture
def data(tmp_path: Path) -> CocoData:
    (tmp_path / "lvis.json").write_text(json.dumps(_document()))
    return read_coco(tmp_path / "lvis.json", tmp_path)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_recall_is_that_of_the_lvis_api(kind: str, data: CocoData, tmp_path: Path):
    lvis = pytest.importorskip("lvis", reason="pip install --no-deps lvis: it asks for another build of OpenCV")
    kept = _proposals(data)
    results = [
        {"image_id": image, "category_id": 1, "score": score, "bbox": box}
        | ({} if kind == "bbox" else {"segmentation": {"size": list(HW), "counts": counts}})
        for image, row in kept.items()
        for box, score, counts in zip(row["boxes"], row["scores"], row["masks"], strict=True)
    ]
    document = _document()
    # Its own way of ignoring classes (use_cats = 0) looks for annotations of class -1 and finds none, so all have one.
    document["categories"] = document["categories"][:1]
    for annotation in document["annotations"]:
        annotation["category_id"] = 1
    (tmp_path / "one_class.json").write_text(json.dumps(document))
    truth = lvis.LVIS(str(tmp_path / "one_class.json"))
    theirs = lvis.LVISEval(truth, lvis.LVISResults(truth, results, max_dets=1000), kind)
    theirs.params.max_dets = 1000
    theirs.evaluate()
    theirs.accumulate()
    ours = score_proposals(data, kept, kind)
    for column, size in enumerate(("all", "small", "medium", "large")):
        values = theirs.eval["recall"][:, 0, column]
        assert ours.recall[size][1000] == pytest.approx(values[values > -1].mean(), abs=1e-4)
    assert 0.3 < ours.recall["all"][1000] < 1


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_recall_does_not_depend_on_which_classes_are_annotated(kind: str, tmp_path: Path):
    scores = []
    for fields in ({}, {"neg_category_ids": [1, 2], "not_exhaustive_category_ids": []}, None):
        document = _document()
        for image in document["images"]:
            if fields is None:
                del image["neg_category_ids"], image["not_exhaustive_category_ids"]
            else:
                image.update(fields)
        (tmp_path / "lvis.json").write_text(json.dumps(document))
        data = read_coco(tmp_path / "lvis.json", tmp_path)
        scores.append(score_proposals(data, _proposals(data), kind).to_json())
    assert scores[0] == scores[1] == scores[2]
