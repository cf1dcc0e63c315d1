"""Label files for other programs, over all images of a run. A data set is one module here, and one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import ParameterError
from ...segments import Segments
from ..outputs import OutputFolder

KINDS = {
    **dict.fromkeys(("json", "labelme", "labelmap", "npz"), "single:FilesOfImages"),
    "coco": "coco:CocoSet",
    "csv": "csv:CsvTable",
    "yolo": "yolo:YoloSet",
}
"""Name → its module:class in this package."""

RecordsReader = Callable[[], Iterable[Mapping[str, Any]]]
"""Reads the records of all images of a data set, those of earlier runs included; can be called again."""


@dataclass(frozen=True, eq=False)
class DoneImage:
    """An image that has been segmented.

    Attributes:
        path: of its file, as it was given.
        name: of its outputs.
        segments: of the image.
        pixels: (h, w, 3) uint8 RGB; None if nobody asked for them.

    Example:
        >>> DoneImage(Path("photos/cat.jpg"), Path("cat"), Segments.empty((4, 5))).name.name
        'cat'
    """

    path: Path
    name: Path
    segments: Segments
    pixels: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class DatasetOptions:
    """What can be chosen.

    Attributes:
        polygons: COCO: polygons instead of RLE.
        copy_images: YOLO: copies of the images instead of links to them.
        reading_chosen: pages, bands or ranges of values are chosen, so that files hold other pixels than those that
            were segmented.

    Example:
        >>> DatasetOptions(polygons=True).copy_images
        False
    """

    polygons: bool = False
    copy_images: bool = False
    reading_chosen: bool = False


class Dataset(Protocol):
    """Label files of one format.

    Attributes:
        reads_segments: `finish` reads the segments of all images from their records.

    Example:
        >>> open_dataset("coco", OutputFolder(Path("."), [])).reads_segments
        True
    """

    reads_segments: bool

    def needs_pixels(self, path: Path) -> bool:
        """Whether `write` needs the pixels of this image."""
        ...

    def write(self, done: DoneImage) -> list[Path]:
        """Write what belongs to one image. Raises FastSamError if it cannot be written."""
        ...

    def finish(self, class_names: tuple[str, ...], records: RecordsReader) -> list[Path]:
        """Write what belongs to all images. Raises FastSamError if it cannot be written."""
        ...


def open_dataset(name: str, output: OutputFolder, options: DatasetOptions = DatasetOptions()) -> Dataset:
    """A data set to be written.

    Args:
        name: one of `KINDS`.
        output: its folder.
        options: what can be chosen.

    Raises:
        ParameterError: there is no such data set, or it has no such option.

    Example:
        >>> open_dataset("voc", OutputFolder(Path("."), []))
        Traceback (most recent call last):
        fastsam_deploy.runtime.errors.ParameterError: format is 'voc', expected one of coco, csv, json, labelmap, \
labelme, npz, yolo
    """
    if name not in KINDS:
        raise ParameterError(f"format is {name!r}, expected one of {', '.join(sorted(KINDS))}")
    for given, option, owner in (
        (options.polygons, "polygons", "coco"),
        (options.copy_images, "copies of images", "yolo"),
    ):
        if given and name != owner:
            raise ParameterError(f"format is {name!r}, which has no {option}; expected {owner!r}, or leave them out")
    module, kind = KINDS[name].split(":")
    dataset: Dataset = getattr(import_module(f".{module}", __name__), kind)(name, output, options)
    return dataset
