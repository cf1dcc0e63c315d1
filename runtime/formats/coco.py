"""COCO: annotations with masks as RLE. Written for tools that read COCO, not read back."""

from __future__ import annotations

import json
from typing import Any

from . import Columns
from .json import rows

SUFFIX = ".json"


def encode(columns: Columns) -> bytes:
    """A document of one image, whose id is 0."""
    height, width = columns.masks.image_hw
    categories = [{"id": number, "name": name} for number, name in enumerate(columns.class_names, 1)]
    images = [{"id": 0, "height": height, "width": width}]
    document = {"info": {}, "images": images, "categories": categories, "annotations": annotations_of(columns)}
    return (json.dumps(document) + "\n").encode()


def annotations_of(columns: Columns, image_id: int | str = 0, first_id: int = 1) -> list[dict[str, Any]]:
    """COCO annotations: see `json.rows`, and `category_id`, which is the class number + 1, as COCO counts from 1.

    Args:
        image_id: of the image in the COCO file.
        first_id: id of the first annotation; the others count on.
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
