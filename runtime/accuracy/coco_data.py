"""Data sets in COCO's format: COCO, LVIS, and people's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_masks

from ..documents import parse
from ..errors import ParameterError


@dataclass(frozen=True)
class CocoImage:
    """An image of a data set.

    Attributes:
        id: in the annotation file.
        path: of the file.
        image_hw: (h, w) pixels, as the annotation file says.

    Example:
        >>> CocoImage(139, Path("val2017/000000000139.jpg"), (426, 640)).path.name
        '000000000139.jpg'
    """

    id: int
    path: Path
    image_hw: tuple[int, int]


@dataclass(frozen=True)
class CocoData:
    """A data set: its images, and the annotations of each.

    Attributes:
        images: in the order of their ids.
        annotations: by the id of the image; crowds are among them.
        document: the annotation file.

    Example:
        >>> data = read_coco(Path("instances_val2017.json"), Path("val2017"))  # doctest: +SKIP
        >>> len(data.images)  # doctest: +SKIP
        5000
    """

    images: tuple[CocoImage, ...]
    annotations: Mapping[int, Sequence[Mapping[str, Any]]]
    document: Mapping[str, Any]

    def objects_of(self, image: CocoImage) -> list[Mapping[str, Any]]:
        """The annotations of an image that are single objects, no crowds."""
        return [each for each in self.annotations.get(image.id, ()) if not each.get("iscrowd", 0)]


def read_coco(annotations: Path, images: Path, limit: int | None = None) -> CocoData:
    """Read an annotation file in the format of COCO.

    LVIS has no names of files, only the addresses of COCO's images: the last part of an address is the name, in
    `images` itself or in the folder that the address names (val2017 or train2017).

    Args:
        annotations: JSON with `images` and `annotations`.
        images: folder of the images.
        limit: only the first images, by id; None: all.

    Raises:
        ParameterError: a file is missing, or it is not in that format.

    Example:
        >>> read_coco(Path("lvis_v1_val.json"), Path("coco"), limit=100)  # doctest: +SKIP
    """
    document = _document(annotations)
    try:
        rows = sorted(document["images"], key=lambda row: row["id"])[:limit]
        found = tuple(
            CocoImage(int(row["id"]), _file(row, images), (int(row["height"]), int(row["width"]))) for row in rows
        )
        kept = {image.id for image in found}
        by_image: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in document["annotations"]:
            if annotation["image_id"] in kept:
                by_image[annotation["image_id"]].append(annotation)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ParameterError(
            f"{annotations}: no annotations of COCO ({type(error).__name__}: {error}); expected images with id, "
            "height, width and file_name or coco_url, and annotations with image_id"
        ) from error
    if not found:
        raise ParameterError(f"{annotations}: has no images; expected at least one")
    return CocoData(found, dict(by_image), document)


def mask_of(annotation: Mapping[str, Any], image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of an annotation: polygons, RLE, or compressed RLE. (h, w) bool.

    Example:
        >>> square = {"segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}
        >>> int(mask_of(square, (5, 6)).sum())
        4
    """
    return np.asarray(coco_masks.decode(rle_of(annotation, image_hw)), bool)


def rle_of(annotation: Mapping[str, Any], image_hw: tuple[int, int]) -> dict[str, Any]:
    """The mask of an annotation as compressed RLE.

    Raises:
        ParameterError: it has none.

    Example:
        >>> rle_of({"segmentation": {"size": [2, 2], "counts": [1, 3]}}, (2, 2))["size"]
        [2, 2]
    """
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        rle: dict[str, Any] = coco_masks.merge(coco_masks.frPyObjects(segmentation, *image_hw))
        return rle
    if isinstance(segmentation, dict):
        if isinstance(segmentation["counts"], list):
            return dict(coco_masks.frPyObjects(segmentation, *image_hw))
        return segmentation
    raise ParameterError(f"annotation {annotation.get('id')}: has no segmentation; expected polygons or RLE")


def _document(path: Path) -> dict[str, Any]:
    try:
        document = parse(path.read_bytes(), most_bytes=1 << 32)
    except OSError as error:
        raise ParameterError(f"{path}: {error.strerror or error}; expected the annotations of COCO or LVIS") from error
    except ValueError as error:
        raise ParameterError(f"{path}: not JSON ({error}); expected the annotations of COCO or LVIS") from error
    if not isinstance(document, dict):
        raise ParameterError(f"{path}: a {type(document).__name__}; expected an object with images and annotations")
    return document


def _file(row: Mapping[str, Any], folder: Path) -> Path:
    if "file_name" in row:
        return folder / str(row["file_name"])
    split, name = str(row["coco_url"]).split("/")[-2:]
    within = folder / split / name
    return within if within.is_file() else folder / str(name)
