"""COCO: one file over all images, with ids that go on from image to image.

It is made at the end of a run, from the records of all images, and appears whole or not at all. Images and annotations
are written one by one, so that memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ... import __version__
from ...documents import dump
from ...formats.coco import annotations_of
from ...segments import Segments
from ...system.atomic import stream_to
from ..outputs import OutputFolder
from . import DatasetOptions, DoneImage, RecordsReader


class CocoSet:
    """annotations.json. `file_name` of an image is its path within the folder that all images have in common.

    `bbox` is the extent of the mask, as in COCO's own files. Masks without pixels are left out.

    Example:
        >>> CocoSet("coco", OutputFolder(Path("."), []), DatasetOptions()).needs_pixels(Path("cat.jpg"))
        False
    """

    reads_segments = True

    def __init__(self, _name: str, output: OutputFolder, options: DatasetOptions) -> None:
        self._path = output.file(Path("annotations"), ".json")
        self._polygons = options.polygons

    def needs_pixels(self, path: Path) -> bool:
        """Never."""
        return False

    def write(self, done: DoneImage) -> list[Path]:
        """Nothing: the file is written at the end."""
        return []

    def finish(self, class_names: tuple[str, ...], records: RecordsReader) -> list[Path]:
        """The file. Classes without a name, of which an image may have more than the model names, have their number."""
        paths = []
        for record in records():
            paths.append(_path_of(record))
            class_names = max(class_names, tuple(record["class_names"]), key=len)
        root = os.path.commonpath([Path(path).parent for path in paths]) if paths else ""
        with stream_to(self._path) as stream:
            info = {
                "description": "segments of FastSAM",
                "contributor": f"fastsam-deploy {__version__}",
                "image_root": Path(os.path.relpath(root, self._path.parent)).as_posix() if root else "",
            }
            categories = [{"id": number, "name": name} for number, name in enumerate(class_names, 1)]
            stream.write(f'{{"info": {dump(info)}, "licenses": [], "categories": {dump(categories)}'.encode())
            _write_list(stream, "images", (_image(number, record, root) for number, record in enumerate(records(), 1)))
            _write_list(stream, "annotations", self._annotations(records))
            stream.write(b"}\n")
        return [self._path]

    def _annotations(self, records: RecordsReader) -> Iterator[dict[str, Any]]:
        first = 1
        for number, record in enumerate(records(), 1):
            segments = Segments.from_json(record)
            segments = segments[segments.areas > 0]
            yield from annotations_of(segments, number, first, boxes="masks", polygons=self._polygons)
            first += len(segments)


def _path_of(record: Any) -> str:
    source = record["input"]
    return os.path.abspath("stdin") if source is None else str(source["path"])  # noqa: PTH100


def _image(number: int, record: Any, root: str) -> dict[str, Any]:
    image = record["image"]
    name = Path(os.path.relpath(_path_of(record), root)).as_posix()
    return {"id": number, "file_name": name, "width": image["width"], "height": image["height"]}


def _write_list(stream: BinaryIO, key: str, values: Iterable[dict[str, Any]]) -> None:
    stream.write(f', "{key}": ['.encode())
    for i, value in enumerate(values):
        stream.write(("," if i else "").encode() + b"\n" + dump(value).encode())
    stream.write(b"]")
