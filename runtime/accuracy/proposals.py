"""Object proposals: average recall of boxes and masks, whatever their class (COCO and LVIS)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..segments import Segments
from ..settings import Thresholds
from .coco_data import CocoData

COUNTS = (1, 10, 100, 1000)
"""Numbers of proposals that recall is measured at; AUC is the area under these."""

PAPER = Thresholds(conf=0.001, iou=0.9, max_det=1000)
"""A thousand proposals of whatever score. The paper names neither threshold; see `docs/accuracy.md`."""

_SIZES = ("all", "small", "medium", "large")


@dataclass(frozen=True)
class ProposalScores:
    """Average recall over IoU 0.5 … 0.95, class-agnostic.

    Attributes:
        recall: by size ("all", "small", "medium", "large"), then by number of proposals; -1 if no object has the size.
        auc: area under the recall over the logarithm of the number of proposals, from 1 to 1000, divided by its width.

    Example:
        >>> ProposalScores({"all": {1: 0.03, 10: 0.157, 100: 0.473, 1000: 0.637}}).auc
        0.3212
    """

    recall: Mapping[str, Mapping[int, float]]

    @property
    def auc(self) -> float:
        """See the class. From 1 proposal on, each decade has the same weight."""
        curve = [self.recall["all"][count] for count in COUNTS]
        return round(float(np.mean([(low + high) / 2 for low, high in pairwise(curve)])), 4)

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        recall = {size: {f"AR@{count}": value for count, value in row.items()} for size, row in self.recall.items()}
        return {**recall, "AUC": self.auc}


def proposals_of(segments: Segments) -> dict[str, Any]:
    """What is kept of an image: boxes, scores and masks. Boxes are those of the network, as in the paper.

    Example:
        >>> proposals_of(Segments.empty((4, 5)))
        {'boxes': [], 'scores': [], 'masks': []}
    """
    left_top, right_bottom = segments.boxes_xyxy[:, :2], segments.boxes_xyxy[:, 2:]
    boxes = np.concatenate([left_top, right_bottom - left_top], axis=1)
    return {
        "boxes": boxes.astype(float).round(2).tolist(),
        "scores": segments.scores.astype(float).round(6).tolist(),
        "masks": [rle["counts"] for rle in segments.masks.rle()],
    }


def score_proposals(data: CocoData, kept: Mapping[int, Mapping[str, Any]], kind: str) -> ProposalScores:
    """Judge the proposals of all images.

    Args:
        data: the data set. Its classes are ignored; a proposal on a crowd is neither right nor wrong.
        kept: by the id of an image, see `proposals_of`.
        kind: "bbox" or "segm".

    Example:
        >>> scores = score_proposals(data, kept, "segm")  # doctest: +SKIP
        >>> scores.recall["all"][1000]  # doctest: +SKIP
        0.31
    """
    results = [
        {
            "image_id": image.id,
            "category_id": 1,
            "score": score,
            "bbox": box,
            "segmentation": {"size": list(image.image_hw), "counts": counts},
        }
        for image in data.images
        for box, score, counts in zip(*(kept[image.id][key] for key in ("boxes", "scores", "masks")), strict=True)
    ]
    return recall_of(_one_class(data), results, kind)


def recall_of(document: Mapping[str, Any], results: Sequence[Mapping[str, Any]], kind: str) -> ProposalScores:
    """Average recall of results in COCO's format, with pycocotools.

    Args:
        document: annotations in COCO's format, of one category.
        results: in COCO's results format; may be empty.
        kind: "bbox" or "segm".

    Example:
        >>> recall_of({"images": [], "annotations": [], "categories": [{"id": 1}]}, [], "bbox").recall["all"][10]
        -1.0
    """
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(document)
        truth.createIndex()
        evaluation = COCOeval(truth, _loaded(truth, results), kind)
        evaluation.params.useCats = 0
        evaluation.params.maxDets = list(COUNTS)
        evaluation.evaluate()
        evaluation.accumulate()
    recall = evaluation.eval["recall"]  # (IoU thresholds, 1 class, sizes, counts)
    table = {
        size: {count: _mean(recall[:, :, row, column]) for column, count in enumerate(COUNTS)}
        for row, size in enumerate(_SIZES)
    }
    return ProposalScores(table)


def _loaded(truth: COCO, results: Sequence[Mapping[str, Any]]) -> COCO:
    if results:
        return truth.loadRes([dict(result) for result in results])
    empty = COCO()
    empty.dataset = {"images": truth.dataset["images"], "annotations": [], "categories": truth.dataset["categories"]}
    empty.createIndex()
    return empty


def _one_class(data: CocoData) -> dict[str, Any]:
    annotations = [
        {"iscrowd": 0, **annotation, "category_id": 1}
        for image in data.images
        for annotation in data.annotations.get(image.id, ())
    ]
    images = [{"id": image.id, "height": image.image_hw[0], "width": image.image_hw[1]} for image in data.images]
    return {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}


def _mean(values: Any) -> float:
    known = values[values > -1]
    return round(float(known.mean()), 4) if known.size else -1.0
