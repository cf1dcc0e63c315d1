"""Average recall, on results whose answer is known."""

from __future__ import annotations

from typing import Any

import pytest

from fastsam_deploy.runtime.accuracy.proposals import ProposalScores, recall_of


def box_at(number: int) -> list[float]:
    """Objects of 40×40 pixels, apart from each other."""
    return [50.0 * (number % 10), 50.0 * (number // 10), 40.0, 40.0]


def data_set(objects: int) -> dict[str, Any]:
    annotations = [
        {
            "id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 1600.0, "bbox": box_at(i),
            "segmentation": [rectangle(box_at(i))],
        }
        for i in range(objects)
    ]  # fmt: skip
    return {
        "info": {},
        "images": [{"id": 1, "height": 500, "width": 500}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }


def rectangle(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def result(box: list[float], score: float) -> dict[str, Any]:
    return {"image_id": 1, "category_id": 1, "bbox": box, "score": score, "segmentation": [rectangle(box)]}


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_perfect_proposals_have_a_recall_of_one(kind: str):
    scores = recall_of(data_set(20), [result(box_at(i), 0.9) for i in range(20)], kind)
    assert scores.recall["all"] == {1: 0.05, 10: 0.5, 100: 1.0, 1000: 1.0}
    assert scores.recall["medium"][1000] == 1.0
    assert scores.recall["small"][1000] == -1.0
    assert scores.auc == pytest.approx((0.275 + 0.75 + 1.0) / 3, abs=1e-4)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_no_proposals_have_a_recall_of_nothing(kind: str):
    assert recall_of(data_set(20), [], kind).recall["all"] == {1: 0.0, 10: 0.0, 100: 0.0, 1000: 0.0}


def test_duplicates_do_not_raise_recall():
    half = [result(box_at(i), 0.9 - i / 100) for i in range(10)]
    alone = recall_of(data_set(20), half, "bbox").recall["all"]
    assert alone[1000] == 0.5
    repeated = [result(box_at(i), 0.9 - i / 100) for i in range(10) for _ in range(10)]
    assert recall_of(data_set(20), repeated, "bbox").recall["all"][1000] == 0.5
    assert recall_of(data_set(20), repeated, "bbox").recall["all"][10] == 0.05


def test_a_box_that_is_moved_counts_up_to_its_iou():
    """Moved by 8 of 40 pixels: IoU 0.667, so right at 0.5, 0.55, 0.6 and 0.65 of ten thresholds."""
    moved = [result([box_at(i)[0] + 8, *box_at(i)[1:]], 0.9) for i in range(5)]
    assert recall_of(data_set(5), moved, "bbox").recall["all"][100] == pytest.approx(0.4)


def test_classes_are_ignored():
    document = data_set(4)
    document["categories"].append({"id": 2, "name": "other"})
    for annotation in document["annotations"][::2]:
        annotation["category_id"] = 2
    assert recall_of(document, [result(box_at(i), 0.5) for i in range(4)], "bbox").recall["all"][1000] == 1.0


def test_a_proposal_on_a_crowd_is_not_counted():
    document = data_set(3)
    document["annotations"][2]["iscrowd"] = 1
    document["annotations"][2]["segmentation"] = {"size": [500, 500], "counts": [0, 250000]}
    scores = recall_of(document, [result(box_at(i), 0.5) for i in range(3)], "bbox")
    assert scores.recall["all"][1000] == 1.0


@pytest.mark.parametrize(
    ("row", "auc"),
    [((0.03, 0.157, 0.473, 0.637), 0.322), ((0.027, 0.155, 0.456, 0.677), 0.321), ((0.03, 0.185, 0.495, 0.625), 0.337)],
    ids=["FastSAM", "SAM-H E64", "SAM-H E32"],
)
def test_the_area_under_the_curve_is_that_of_the_paper(row: tuple[float, ...], auc: float):
    """The paper prints AR@10, AR@100, AR@1000 and AUC; with AR@1 near 0.03, which it does not print, all rows agree."""
    curve = dict(zip((1, 10, 100, 1000), row, strict=True))
    assert ProposalScores({"all": curve}).auc == pytest.approx(auc, abs=0.002)
