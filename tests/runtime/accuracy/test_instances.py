"""Objects from prompts, on segments whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastsam_deploy.runtime import Masks, Segments
from fastsam_deploy.runtime.accuracy.coco_data import CocoImage, mask_of, read_coco
from fastsam_deploy.runtime.accuracy.instances import (
    average_precision,
    centre_of,
    iou_from_prompts,
    masks_for,
    mean_iou,
    read_boxes,
)
from fastsam_deploy.runtime.errors import ParameterError

SIDE = 200


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def annotation(number: int, x: int, y: int, side: int, category: int = 1) -> dict[str, object]:
    outline = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {
        "id": number, "image_id": 7, "category_id": category, "iscrowd": 0, "area": side * side,
        "bbox": [x, y, side, side], "segmentation": [outline],
    }  # fmt: skip


@pytest.fixture
def segments() -> Segments:
    masks = Masks.from_dense(np.stack([square(10, 10, 20), square(60, 60, 50), square(130, 130, 60)]))
    ones = np.linspace(0.9, 0.7, 3).astype(np.float32)
    return Segments.unprompted(masks.boxes_xyxy(), ones, np.zeros(3, np.int64), masks)


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    document = {
        "images": [{"id": 7, "file_name": "a.png", "height": SIDE, "width": SIDE}],
        "annotations": [annotation(1, 10, 10, 20), annotation(2, 60, 60, 50, 2), annotation(3, 130, 130, 60)],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "plate"}],
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    return path


def test_objects_that_were_segmented_have_an_iou_of_one(segments: Segments, data_file: Path, tmp_path: Path):
    data = read_coco(data_file, tmp_path)
    rows = iou_from_prompts(segments, data.objects_of(data.images[0]), data.images[0])
    assert [(row["box"], row["click"]) for row in rows] == [(1.0, 1.0)] * 3
    assert mean_iou(rows)["click"] == {"all": 1.0, "small": 1.0, "medium": 1.0, "large": -1.0}


def test_objects_that_were_missed_count_as_nothing(segments: Segments, data_file: Path, tmp_path: Path):
    data = read_coco(data_file, tmp_path)
    rows = iou_from_prompts(segments[:1], data.objects_of(data.images[0]), data.images[0])
    assert [row["click"] for row in rows] == [1.0, 0.0, 0.0]
    assert mean_iou(rows)["click"]["all"] == pytest.approx(1 / 3, abs=1e-4)


def test_perfect_boxes_have_an_ap_of_one(segments: Segments, data_file: Path, tmp_path: Path):
    data = read_coco(data_file, tmp_path)
    boxes_file = tmp_path / "boxes.json"
    rows = [
        {"image_id": 7, "category_id": row["category_id"], "bbox": row["bbox"], "score": 0.5}
        for row in data.annotations[7]
    ]
    boxes_file.write_text(json.dumps([*rows, {**rows[0], "image_id": 8}]))
    boxes = read_boxes(boxes_file, data)
    assert len(boxes[7]) == 3
    results = {7: masks_for(segments, boxes[7])}
    assert average_precision(data, results)["AP"] == 1.0
    wrong = {7: [{**result, "category_id": 3 - result["category_id"]} for result in results[7]]}
    assert average_precision(data, wrong)["AP"] == 0.0
    assert average_precision(data, {7: []})["AP"] == 0.0


def test_boxes_beyond_the_image_are_cut_and_empty_ones_select_nothing(segments: Segments):
    boxes = [
        {"bbox": [-30.0, -30.0, 60.0, 60.0], "category_id": 1, "score": 0.9},
        {"bbox": [20.0, 20.0, 0.0, 0.0], "category_id": 1, "score": 0.8},
        {"bbox": [500.0, 500.0, 10.0, 10.0], "category_id": 1, "score": 0.7},
    ]
    assert [result["score"] for result in masks_for(segments, boxes)] == [0.9]


def test_a_click_is_inside_the_object_and_far_from_its_outline():
    ring = square(20, 20, 100) & ~square(40, 40, 60)
    x, y = centre_of(ring)
    assert ring[int(y), int(x)]
    assert centre_of(square(10, 10, 21)) == [20.5, 20.5]
    whole = np.ones((9, 9), bool)
    assert centre_of(whole) == [4.5, 4.5]


@pytest.mark.parametrize(
    "segmentation",
    [
        [[10, 10, 30, 10, 30, 30, 10, 30]],
        {"size": [SIDE, SIDE], "counts": [10 * SIDE + 10, *[20, SIDE - 20] * 19, 20, (SIDE - 30) * SIDE + SIDE - 30]},
    ],
    ids=["polygons", "counts"],
)
def test_masks_of_annotations_are_read(segmentation: object):
    assert np.array_equal(mask_of({"segmentation": segmentation}, (SIDE, SIDE)), square(10, 10, 20))


def test_names_of_files_come_from_addresses_as_in_lvis(tmp_path: Path):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "val2017/000000000139.jpg").touch()
    row = {"id": 139, "coco_url": "http://images.cocodataset.org/val2017/000000000139.jpg", "height": 4, "width": 5}
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps({"images": [row], "annotations": []}))
    assert read_coco(path, tmp_path).images == (CocoImage(139, tmp_path / "val2017/000000000139.jpg", (4, 5)),)
    assert read_coco(path, tmp_path / "val2017").images[0].path == tmp_path / "val2017/000000000139.jpg"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "expected an object"),
        ('{"images": [{}], "annotations": []}', "no annotations of COCO"),
        ("{", "not JSON"),
    ],
)
def test_other_files_are_refused(text: str, said: str, tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ParameterError, match=said):
        read_coco(path, tmp_path)
