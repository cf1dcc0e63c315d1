"""labelme: a file of the annotation tool, one for each image, to be corrected by hand.

A segment has a shape for each of its parts, all with the segment's number as `group_id`. labelme's polygons have no
holes: each hole is joined to the outline by a seam. Polygons run through the centres of the outermost pixels (see
`masks.centre_lines`); what labelme makes of them are the pixels of the mask. `score` is kept by labelme, and read by
X-AnyLabeling.
"""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..documents import dump
from ..errors import ParameterError
from ..masks.centre_lines import centre_lines
from ..masks.seams import joined
from . import Columns

SUFFIX = ".json"

SHAPES = ("polygons", "masks")
"""What a segment can become."""

_VERSION = "5.5.0"
"""The version of labelme whose files have these keys; labelme 4.6 and newer read the polygons."""


def encode(columns: Columns, *, image_path: str = "", shapes: str = "polygons", tolerance_px: float = 0.0) -> bytes:
    """A labelme file: `document` as JSON.

    Args:
        columns, image_path, shapes, tolerance_px: see `document`.

    Raises:
        ParameterError: a setting is not as described.

    Example:
        >>> from fastsam_deploy.runtime.segments import Segments
        >>> import json
        >>> json.loads(encode(Segments.empty((4, 5)), image_path="photo.jpg"))["imagePath"]
        'photo.jpg'
    """
    content = document(columns, image_path, shapes=shapes, tolerance_px=tolerance_px)
    return (dump(content, ensure_ascii=False, indent=2) + "\n").encode()


def document(
    columns: Columns, image_path: str = "", *, shapes: str = "polygons", tolerance_px: float = 0.0
) -> dict[str, Any]:
    """The content of a labelme file as plain JSON values.

    Args:
        columns: the segments of one image.
        image_path: path of the image, relative to the folder of the labelme file. labelme opens the image from there;
            without it the file cannot be opened.
        shapes: "polygons"; or "masks": bitmaps, exact, holes and parts included, which labelme 5.2 and newer show.
        tolerance_px: of polygons, leave out corners that lie at most this far from the simplified outline; 0: none.

    Raises:
        ParameterError: `shapes` is neither, or the tolerance is negative.

    Example:
        >>> from fastsam_deploy.runtime import Masks, Segments
        >>> masks = Masks.from_dense([[[0, 1, 1, 0], [0, 1, 1, 0]]])
        >>> segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        >>> shape = document(segments, "photo.jpg")["shapes"][0]
        >>> shape["label"], shape["score"], shape["points"]
        ('object', 1.0, [[1.5, 0.5], [2.5, 0.5], [2.5, 1.5], [1.5, 1.5]])
    """
    if shapes not in SHAPES:
        raise ParameterError(f"shapes is {shapes!r}, expected one of {', '.join(SHAPES)}")
    height, width = columns.masks.image_hw
    geometries = _bitmaps(columns) if shapes == "masks" else _polygons(columns, tolerance_px)
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": [
            {
                "label": columns.class_names[int(columns.classes[i])],
                "group_id": i,
                "description": "",
                "flags": {},
                "score": round(float(columns.scores[i]), 6),
                **geometry,
            }
            for i, parts in enumerate(geometries)
            for geometry in parts
        ],
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _polygons(columns: Columns, tolerance_px: float) -> list[list[dict[str, Any]]]:
    return [
        [{"shape_type": "polygon", "points": (joined(part) + 0.5).round(3).tolist(), "mask": None} for part in parts]
        for parts in centre_lines(columns.masks, tolerance_px)
    ]


def _bitmaps(columns: Columns) -> list[list[dict[str, Any]]]:
    masks = columns.masks.trimmed()
    return [
        [_bitmap(crop, corner_xy)] if crop.size else []
        for crop, corner_xy in zip(masks.crops, masks.corners_xy, strict=True)
    ]


def _bitmap(crop: NDArray[np.bool_], corner_xy: NDArray[np.int64]) -> dict[str, Any]:
    _, png = cv2.imencode(".png", crop.view(np.uint8))
    last_xy = corner_xy + crop.shape[::-1] - 1  # labelme counts the last pixel as inside
    return {
        "shape_type": "mask",
        "points": np.stack([corner_xy, last_xy]).astype(float).tolist(),
        "mask": base64.b64encode(png.tobytes()).decode(),
    }
