"""Options that take one of a few names. The names are repeated here: importing them would slow down `--help`."""

from __future__ import annotations

from enum import Enum


class PointsMode(str, Enum):
    """The names in `prompts.POINT_MODES`. Importing them here would import OpenCV for `--help`.

    Example:
        >>> PointsMode("each").value
        'each'
    """

    merge = "merge"
    each = "each"
    all = "all"


class PictureType(str, Enum):
    """The names in `batch.pictures.TYPES`.

    Example:
        >>> PictureType("webp").value
        'webp'
    """

    jpg = "jpg"
    png = "png"
    webp = "webp"


class DatasetFormat(str, Enum):
    """The names in `batch.datasets.KINDS`.

    Example:
        >>> DatasetFormat("coco").value
        'coco'
    """

    json = "json"
    coco = "coco"
    yolo = "yolo"
    labelme = "labelme"
    labelmap = "labelmap"
    csv = "csv"
    npz = "npz"
