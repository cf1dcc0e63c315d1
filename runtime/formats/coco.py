"""COCO: annotations with masks as RLE. Written for tools that read COCO, not read back."""

from __future__ import annotations

import json
from typing import Any

from . import Columns
from .json import rows

SUFFIX = ".json"


def encode(columns: Columns) -> bytes:
    """A COCO file of one image, whose id is 0.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> json.loads(encode(Segments.empty((4, 5))))["images"]
        [{'id': 0, 'height': 4, 'width': 5}]
    """
    height, width = columns.masks.image_hw
    categories = [{"id": number, "name": name} for number, name in enumerate(columns.class_names, 1)]
    images = [{"id": 0, "height": height, "width": width}]
    document = {"info": {}, "images": images, "categories": categories, "annotations": annotations_of(columns)}
    return (json.dumps(document) + "\n").encode()


def annotations_of(columns: Columns, image_id: int | str = 0, first_id: int = 1) -> list[dict[str, Any]]:
    """COCO annotations: the keys of `json.rows`, and `category_id`, the class number + 1, as COCO counts from 1.

    Args:
        image_id: id of the image in the COCO file.
        first_id: id of the first annotation; the next ones follow.

    Example:
        >>> import numpy as np
        >>> from fastsam_deploy.runtime import Masks, Segments
        >>> masks = Masks.from_dense(np.ones((1, 4, 5)))
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> annotation = annotations_of(segments, image_id=7)[0]
        >>> annotation["id"], annotation["image_id"], annotation["category_id"], annotation["area"]
        (1, 7, 1, 20)
    """
    return [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": int(number) + 1,
            **row,
            "iscrowd": 0,
        }
        for i, (number, row) in enumerate(zip(columns.classes, rows(columns), strict=True))
    ]
