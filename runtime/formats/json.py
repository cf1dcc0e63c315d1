"""JSON: an object for each image, masks as COCO RLE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..documents import Fields, dump, parse
from ..errors import FastSamError
from ..limits import MAX_SEGMENTS, MAX_SIDE
from ..masks.store import Masks
from ..spec import MAX_CLASSES
from . import NO_PROMPT, NO_TRACK, Columns, LoadedColumns

SUFFIX = ".json"


def encode(columns: Columns) -> bytes:
    """One line of JSON.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> encode(Segments.empty((4, 5)))
        b'{"image": {"height": 4, "width": 5}, "class_names": ["object"], "segments": []}\\n'
    """
    return (dump(document(columns)) + "\n").encode()


def decode(content: bytes) -> LoadedColumns:
    """The columns of a file that `encode` wrote.

    Raises:
        FastSamError: it is not JSON, a key is missing, a value is of another type or outside of its range, or a mask
            does not fit the image.

    Example:
        >>> decode(b'{"image": {"height": 4, "width": 5}, "segments": []}').masks.image_hw
        (4, 5)
    """
    try:
        parsed = parse(content)
    except ValueError as error:
        raise FastSamError(f"{error}; expected JSON that Segments.save wrote") from error
    return columns_of(parsed)


def document(columns: Columns) -> dict[str, Any]:
    """All columns as plain JSON values; `columns_of` reads them back.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> document(Segments.empty((4, 5)))["image"]
        {'height': 4, 'width': 5}
    """
    height, width = columns.masks.image_hw
    return {
        "image": {"height": height, "width": width},
        "class_names": list(columns.class_names),
        "segments": [{"class": int(number), **row} for number, row in zip(columns.classes, rows(columns), strict=True)],
    }


def columns_of(parsed: Mapping[str, Any]) -> LoadedColumns:
    """The columns of a `document`.

    Raises:
        FastSamError: a key is missing, or a mask does not fit the image.

    Example:
        >>> columns_of({"image": {"height": 4, "width": 5}, "class_names": ["cat"], "segments": []}).class_names
        ('cat',)
    """
    try:
        fields = Fields(parsed, "the file")
        image = fields.fields("image")
        image_hw = image.whole("height", 1, MAX_SIDE), image.whole("width", 1, MAX_SIDE)
        segments = [Fields(row, f"segment {i}") for i, row in enumerate(fields.items("segments", MAX_SEGMENTS))]
        boxes = np.array([row.numbers("bbox", 4) for row in segments], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return LoadedColumns(
            boxes_xyxy=boxes.astype(np.float32),
            scores=np.array([row.number("score") for row in segments], np.float32),
            classes=np.array([_whole(row, "class", 0, -(2**63)) for row in segments], np.int64),
            masks=Masks.from_rle([row.value("segmentation") for row in segments], image_hw),
            prompts=np.array([_whole(row, "prompt", NO_PROMPT) for row in segments], np.int64),
            fits=np.array([_number(row, "fit") for row in segments], np.float32),
            probabilities=np.array([_number(row, "probability") for row in segments], np.float32),
            class_names=fields.texts("class_names", MAX_CLASSES) if "class_names" in fields else ("object",),
            track_ids=np.array([_whole(row, "track_id", NO_TRACK) for row in segments], np.int64),
        )
    except ValueError as error:
        raise FastSamError(f"segments from JSON: {error}; expected what Segments.to_json writes") from error


def rows(columns: Columns, segmentations: Iterable[Any] | None = None) -> list[dict[str, Any]]:
    """The keys that JSON and COCO share, with plain values, for each segment.

    `bbox` is x, y, w, h of the detection in pixels. `prompt` and `fit` are None without a prompt, `probability` without
    a text prompt. `track_id` is there for tracked segments only.

    Args:
        columns: n segments.
        segmentations: the masks in plain values, n; None: as COCO RLE.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> masks = Masks.from_dense([[[0, 1, 1], [0, 1, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> rows(segments)[0]["bbox"], rows(segments)[0]["segmentation"]
        ([1.0, 0.0, 2.0, 2.0], {'size': [2, 3], 'counts': '231'})
    """
    boxes = columns.boxes_xyxy.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    masks = columns.masks
    prompted = columns.prompts, columns.fits, columns.probabilities, columns.track_ids
    segmentations = masks.rle() if segmentations is None else segmentations
    return [
        {
            "bbox": [round(side, 3) for side in box],
            "score": round(float(score), 6),
            "area": int(area),
            "segmentation": segmentation,
            "prompt": None if prompt == NO_PROMPT else int(prompt),
            "fit": None if prompt == NO_PROMPT or np.isnan(fit) else round(float(fit), 6),
            "probability": None if np.isnan(probability) else round(float(probability), 6),
            **({} if track == NO_TRACK else {"track_id": int(track)}),
        }
        for box, score, area, segmentation, prompt, fit, probability, track in zip(
            boxes.tolist(), columns.scores, masks.areas, segmentations, *prompted, strict=True
        )
    ]


def _whole(row: Fields, name: str, default: int, least: int = 0) -> int:
    return row.whole(name, least, 2**63 - 1) if name in row else default


def _number(row: Fields, name: str) -> float:
    return row.number(name) if name in row else np.nan
