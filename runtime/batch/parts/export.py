"""Data sets of the results of a run, in the formats of `batch.datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import ImageError
from ...segments import Segments
from ...system.atomic import write_atomically
from ...system.scratch import scratch_folder
from ..datasets import Dataset, DatasetOptions, DoneImage, open_dataset
from ..outputs import OutputFolder, output_names
from ..records import absolute, segments_json
from .locations import is_url, local_path
from .output.listing import Listing
from .output.store import Store
from .reader import BatchResults, SegmentedImage
from .sources.content import content_of
from .sources.image import SourceImage

KINDS = ("coco", "yolo", "csv")
"""Formats that hold many images; each is one of `datasets.KINDS`."""


def export_dataset(output: str, name: str, folder: Path, options: DatasetOptions | None = None) -> list[Path]:
    """Write a data set of all images that are done and have no error.

    YOLO needs the images beside the labels: links to them, or copies (also of those in shards and object stores).

    Args:
        output: of the run.
        name: one of `KINDS`.
        folder: of the data set.
        options: see `DatasetOptions`; None for the usual ones.

    Returns:
        The files that describe all images.

    Raises:
        FastSamError: the results cannot be read, or the data set cannot be written.

    Example:
        >>> export_dataset("out", "coco", Path("data"))  # doctest: +SKIP
        [PosixPath('data/annotations.json')]
    """
    options = options or DatasetOptions()
    results = BatchResults(output)
    target = OutputFolder(folder, [])
    dataset = open_dataset(name, target, options)
    if not dataset.reads_segments:
        away = {image.id: image for image in Listing(Store(output), results.plan).images() if _is_away(image)}
        copied = open_dataset(name, target, DatasetOptions(options.polygons, True, options.reading_chosen))
        for done, outputs in zip(_done(results), _names(results), strict=True):
            if done.id in away:
                _write_copied(copied, away[done.id], outputs, done.result())
            else:
                dataset.write(DoneImage(local_path(done.path), outputs, done.result()))

    def records() -> Iterator[Mapping[str, Any]]:
        return (_record(done, done.result()) for done in _done(results))

    return dataset.finish(results.description.class_names, records)


def _write_copied(dataset: Dataset, image: SourceImage, name: Path, segments: Segments) -> None:
    """Fetch an image and write what belongs to it. Raises FastSamError."""
    content = content_of(image)
    if isinstance(content, ImageError):
        raise content
    with scratch_folder() as scratch:
        path = scratch / PurePosixPath(image.member or image.location).name
        write_atomically(path, content, synced=False)
        dataset.write(DoneImage(path, name, segments))


def _names(results: BatchResults) -> list[Path]:
    """Names of the files of each image that is done, in their order."""
    ids = [
        Path(row["id"])
        for batch in results.batches(["id", "error"])
        for row in batch.to_pylist()
        if row["error"] is None
    ]
    return output_names(ids)


def _done(results: BatchResults) -> Iterator[SegmentedImage]:
    return (image for image in results if image.error is None)


def _is_away(image: SourceImage) -> bool:
    """Whether it is no file of this machine that can be linked to."""
    return image.member is not None or is_url(image.location)


def _record(image: SegmentedImage, segments: Segments) -> dict[str, Any]:
    """As `fastsam segment` writes it."""
    place = image.path if image.member is None else f"{image.path}/{image.member}"
    path = f"/{place.partition('://')[2]}" if is_url(place) else absolute(local_path(place))
    return {**segments_json(segments, Path(place), {}), "input": {"path": path}}
