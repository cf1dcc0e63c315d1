"""COCO: annotations with masks as RLE. Written for tools that read COCO, not read back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..documents import dump
from ..errors import ParameterError
from ..masks.seams import joined
from . import Columns
from .json import rows

SUFFIX = ".json"

BOXES = ("detections", "masks")
"""What `bbox` of an annotation can be."""


def encode(
    columns: Columns,
    *,
    file_name: str | None = None,
    boxes: str = "detections",
    polygons: bool = False,
    tolerance_px: float = 0.0,
) -> bytes:
    """A COCO file of one image, whose id is 0.

    Args:
        columns: the segments of one image.
        file_name: of the image, which many tools look for; None: it is left out.
        boxes, polygons, tolerance_px: see `annotations_of`.

    Raises:
        ParameterError: a setting is not as described.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> import json
        >>> json.loads(encode(Segments.empty((4, 5))))["images"]
        [{'id': 0, 'height': 4, 'width': 5}]
    """
    height, width = columns.masks.image_hw
    categories = [{"id": number, "name": name} for number, name in enumerate(columns.class_names, 1)]
    image = {"id": 0, "height": height, "width": width, **({} if file_name is None else {"file_name": file_name})}
    annotations = annotations_of(columns, boxes=boxes, polygons=polygons, tolerance_px=tolerance_px)
    document = {"info": {}, "images": [image], "categories": categories, "annotations": annotations}
    return (dump(document) + "\n").encode()


def annotations_of(
    columns: Columns,
    image_id: int | str = 0,
    first_id: int = 1,
    *,
    boxes: str = "detections",
    polygons: bool = False,
    tolerance_px: float = 0.0,
) -> list[dict[str, Any]]:
    """COCO annotations: the keys of `json.rows`, and `category_id`, the class number + 1, as COCO counts from 1.

    Args:
        columns: the segments of one image.
        image_id: ID of the image in the COCO file.
        first_id: ID of the first annotation; the others follow.
        boxes: what `bbox` (x, y, w, h) is. "detections": the box that the network gave. Edges within 20 px of the
            border of the image lie on it, and it may be larger or smaller than the mask. "masks": the extent of the
            mask, which is what COCO's own annotations have.
        polygons: whether `segmentation` is a list of polygons, one for each part of the mask, instead of RLE. COCO's
            polygons have no holes: each hole is joined to the outline by a seam without width (see `masks.seams`), and
            pycocotools reads the same pixels back. A mask without pixels stays RLE, as it has no polygon.
        tolerance_px: simplifies polygons, see `Masks.polygons`; 0: exact.

    Raises:
        ParameterError: `boxes` is neither, or a tolerance is given without polygons or is negative.

    Example:
        >>> import numpy as np
        >>> from fastsam_deploy.runtime import Masks, Segments
        >>> masks = Masks.from_dense([[[0, 1, 1, 0]]])
        >>> box, score, number = np.array([[0, 0, 4, 1]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64)
        >>> segments = Segments.unprompted(box, score, number, masks)
        >>> annotation = annotations_of(segments, image_id=7)[0]
        >>> annotation["id"], annotation["image_id"], annotation["category_id"], annotation["area"], annotation["bbox"]
        (1, 7, 1, 2, [0.0, 0.0, 4.0, 1.0])
        >>> annotation = annotations_of(segments, boxes="masks", polygons=True)[0]
        >>> annotation["bbox"], annotation["segmentation"]
        ([1.0, 0.0, 2.0, 1.0], [[1.0, 0.0, 3.0, 0.0, 3.0, 1.0, 1.0, 1.0]])
    """
    if boxes not in BOXES:
        raise ParameterError(f"boxes is {boxes!r}, expected one of {', '.join(BOXES)}")
    if not 0 <= tolerance_px < np.inf or (tolerance_px and not polygons):
        raise ParameterError(f"tolerance_px is {tolerance_px}, expected 0 or more, and polygons=True with it")
    annotations = [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": int(number) + 1,
            **row,
            "iscrowd": 0,
        }
        for i, (number, row) in enumerate(zip(columns.classes, rows(columns), strict=True))
    ]
    if boxes == "masks":
        for annotation, (x1, y1, x2, y2) in zip(annotations, columns.masks.boxes_xyxy().tolist(), strict=True):
            annotation["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    if polygons:
        for annotation, parts in zip(annotations, columns.masks.polygons(tolerance_px), strict=True):
            annotation["segmentation"] = [joined(part).ravel().tolist() for part in parts] or annotation["segmentation"]
    return annotations
