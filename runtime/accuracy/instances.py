"""Instance segmentation with prompts: AP from given boxes, and IoU from a box or a click on each object (COCO)."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..documents import parse
from ..errors import ParameterError
from ..prompts.boxes import Boxes
from ..prompts.points import Points
from ..segments import Segments
from ..settings import Thresholds
from .coco_data import CocoData, CocoImage, mask_of, rle_of

PAPER = Thresholds(conf=0.001, iou=0.9, max_det=1000)
"""Many segments to choose from. The paper does not name the thresholds; see `docs/accuracy.md`."""

_AP_NAMES = ("AP", "AP50", "AP75", "APS", "APM", "APL")
_OBJECT_SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}


def read_boxes(path: Path, data: CocoData) -> dict[int, list[dict[str, Any]]]:
    """Boxes of a detector, in COCO's results format, by the id of the image.

    Args:
        path: JSON list of objects with image_id, category_id, bbox (x, y, w, h) and score.
        data: boxes of other images are left out.

    Raises:
        ParameterError: the file is missing or has another format.

    Example:
        >>> boxes = read_boxes(Path("vitdet_h_bbox_val2017.json"), data)  # doctest: +SKIP
    """
    try:
        rows = parse(path.read_bytes(), most_bytes=1 << 32)
        boxes: dict[int, list[dict[str, Any]]] = {image.id: [] for image in data.images}
        for row in rows:
            if row["image_id"] in boxes:
                boxes[row["image_id"]].append(
                    {
                        "category_id": int(row["category_id"]),
                        "bbox": [float(value) for value in row["bbox"]],
                        "score": float(row["score"]),
                    }
                )
    except OSError as error:
        raise ParameterError(f"{path}: {error.strerror or error}; expected boxes in COCO's results format") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{path}: no results of COCO ({type(error).__name__}: {error}); expected a list of objects with image_id, "
            "category_id, bbox and score"
        ) from error
    return boxes


def masks_for(segments: Segments, boxes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each box, the segment whose box has the highest IoU with it, as a result of COCO without its image.

    The score is that of the given box, as in the paper. A box that no segment overlaps has no result.

    Args:
        segments: everything in the image.
        boxes: see `read_boxes`.

    Example:
        >>> masks_for(Segments.empty((8, 8)), [{"bbox": [1, 1, 4, 4], "category_id": 3, "score": 0.9}])
        []
    """
    results = []
    for box, answer in _answers(segments, boxes):
        if len(answer):
            results.append(
                {"category_id": box["category_id"], "score": box["score"], "counts": answer.masks.rle()[0]["counts"]}
            )
    return results


def iou_from_prompts(
    segments: Segments, objects: Sequence[Mapping[str, Any]], image: CocoImage
) -> list[dict[str, Any]]:
    """IoU with each object of what its own box, and one click in its middle, select.

    The click is the pixel of the object that is farthest from its outline. Where nothing is selected, the IoU is 0.

    Args:
        segments: everything in the image.
        objects: annotations of the image, no crowds.
        image: for its size.

    Returns:
        For each object: "area" (pixels), "box" and "click", IoU in [0, 1].

    Example:
        >>> object_ = {"bbox": [0, 0, 2, 2], "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]], "area": 4}
        >>> iou_from_prompts(Segments.empty((8, 8)), [object_], CocoImage(1, Path("a.jpg"), (8, 8)))
        [{'area': 4.0, 'box': 0.0, 'click': 0.0}]
    """
    rows = []
    for box, answer in _answers(segments, objects):
        truth = rle_of(box, image.image_hw)
        mask = mask_of(box, image.image_hw)
        if mask.any():
            clicked = segments.select(Points([centre_of(mask)], mode="each"))
            rows.append({"area": float(box["area"]), "box": _iou(answer, truth), "click": _iou(clicked, truth)})
    return rows


def centre_of(mask: NDArray[np.bool_]) -> list[float]:
    """The pixel of a mask that is farthest from its outline, as (x, y) of its middle. The mask is not empty.

    Example:
        >>> centre_of(np.pad(np.ones((3, 5), bool), 1))[1]
        2.5
    """
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return [float(x) - 0.5, float(y) - 0.5]


def average_precision(data: CocoData, results: Mapping[int, Iterable[Mapping[str, Any]]]) -> dict[str, float]:
    """COCO's AP of masks: AP, AP50, AP75, and by size.

    Args:
        data: the data set.
        results: by the id of an image, see `masks_for`.

    Example:
        >>> average_precision(data, results)["AP"]  # doctest: +SKIP
        0.379
    """
    rows = [
        {
            "image_id": image.id,
            "category_id": result["category_id"],
            "score": result["score"],
            "segmentation": {"size": list(image.image_hw), "counts": result["counts"]},
        }
        for image in data.images
        for result in results[image.id]
    ]
    if not rows:
        return dict.fromkeys(_AP_NAMES, 0.0)
    with redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            **data.document,
            "info": {},
            "images": [
                {"id": image.id, "height": image.image_hw[0], "width": image.image_hw[1]} for image in data.images
            ],
            "annotations": [
                {"iscrowd": 0, **annotation}
                for image in data.images
                for annotation in data.annotations.get(image.id, ())
            ],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: round(float(value), 4) for name, value in zip(_AP_NAMES, evaluation.stats[:6], strict=True)}


def mean_iou(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean IoU of all objects, and by COCO's sizes (of the annotated area), for boxes and for clicks.

    Args:
        rows: see `iou_from_prompts`; of all images.

    Example:
        >>> mean_iou([{"area": 100.0, "box": 1.0, "click": 0.5}])["box"]
        {'all': 1.0, 'small': 1.0, 'medium': -1.0, 'large': -1.0}
    """
    return {
        prompt: {
            "all": _mean([row[prompt] for row in rows]),
            **{
                size: _mean([row[prompt] for row in rows if low <= row["area"] < high])
                for size, (low, high) in _OBJECT_SIZES.items()
            },
        }
        for prompt in ("box", "click")
    }


def _answers(segments: Segments, boxes: Sequence[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], Segments]]:
    """Each box, and the segment that it selects. Boxes are cut to the image; one without a pixel selects nothing."""
    height, width = segments.image_hw
    corners = np.array([box["bbox"] for box in boxes], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    corners = corners.clip(0, (width, height, width, height))
    valid = np.flatnonzero((np.trunc(corners[:, 2:]) > np.trunc(corners[:, :2])).all(axis=1))
    answers = {}
    if len(valid) and len(segments):
        selected = segments.select(Boxes(corners[valid]))
        answers = {int(valid[prompt]): row for row, prompt in enumerate(selected.prompts.tolist())}
    for i, box in enumerate(boxes):
        yield box, selected[answers[i] : answers[i] + 1] if i in answers else segments[:0]


def _iou(answer: Segments, truth: Mapping[str, Any]) -> float:
    if not len(answer):
        return 0.0
    return round(float(coco_masks.iou(answer.masks.rle()[:1], [truth], [0])[0, 0]), 5)


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4) if values else -1.0
