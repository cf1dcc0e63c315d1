"""Segment many image files, and write pictures and a record for each. A bad image does not stop the others."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError
from ..pipeline import FastSAM
from ..render import cutout, draw_prompts, draw_segments, mask_image, save_image
from ..segmenters.stream import StreamItem
from ..segments import Prompt, Segments
from ..sources.paths import CUTOUTS, MASKS, STANDARD_INPUT
from ..stages.image import ImageFile
from ..stages.reading.decoded import Selection
from .console import say, with_progress
from .outputs import OVERLAY, OutputFolder
from .records import InputFile, Records, RunSettings, error_json, segments_json

if TYPE_CHECKING:
    from rich.console import Console

_PROCESSORS = {"server": "server", "device": "GPU", "engine": "network"}
"""Stage that takes most of the time → what runs it."""


@dataclass(frozen=True)
class Pictures:
    """The pictures to write for each image.

    Attributes:
        output: the folder; None for no pictures at all.
        masks: also write a black and white PNG for each segment.
        cutouts: also write a transparent PNG for each segment.
        contours: outline the segments in the overlay.

    Example:
        >>> Pictures(output=None).contours
        True
    """

    output: OutputFolder | None
    masks: bool = False
    cutouts: bool = False
    contours: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain values, for records; empty without pictures."""
        if self.output is None:
            return {}
        kinds = {"overlay": True, "masks": self.masks, "cutouts": self.cutouts}
        written = [kind for kind, wanted in kinds.items() if wanted]
        return {"folder": str(self.output.folder), "pictures": written, "contours": self.contours}


@dataclass(frozen=True)
class Job:
    """An image to segment.

    Attributes:
        path: of the file; `STANDARD_INPUT` is standard input.
        name: of its outputs, see `output_names`.

    Example:
        >>> Job(Path("photos/cat.jpg"), Path("cat")).name.name
        'cat'
    """

    path: Path
    name: Path


@dataclass
class Tally:
    """What a run has done so far; it is kept up to date while the run works.

    Attributes:
        done: number of images that are done, with all their files.
        skipped: number of images that an earlier run has done.
        failed: the images that failed, each with its error.
        files: kind of file → how many have been written.

    Example:
        >>> str(Tally(done=2, skipped=1))
        '2 done, 0 failed, 1 skipped'
    """

    done: int = 0
    skipped: int = 0
    failed: list[tuple[Path, FastSamError]] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return f"{self.done} done, {len(self.failed)} failed, {self.skipped} skipped"


def segment_files(
    model: FastSAM,
    jobs: Sequence[Job],
    prompt: Prompt | Sequence[Prompt] | None,
    pictures: Pictures,
    records: Records,
    console: Console,
    settings: RunSettings,
    selection: Selection = Selection(),  # noqa: B008 - a frozen value
    tally: Tally | None = None,
) -> Tally:
    """Segment each file, write its pictures and its record, and print a line about it.

    A record has the keys of `segments_json`, and

    - input: the file, see `InputFile`; None for standard input;
    - name: of its outputs; files: kind → the files that were written;
    - settings: of the run, see `RunSettings`;
    - error: kind and message, if the image could not be segmented (then class_names and segments are absent), or one of
      its files could not be written.

    Args:
        model: open.
        jobs: the images.
        prompt: for every image; None for everything.
        pictures: the pictures to write.
        records: gets a record for each image.
        console: for messages. On a terminal it shows a progress bar after two seconds.
        settings: of the run, for the records.
        selection: page, bands and range of values to read from each file.
        tally: is kept up to date; None for a new one.

    Returns:
        The tally. Images that failed are in it; all others are done.

    Raises:
        FastSamError: a record cannot be written; the images before it are done.

    Example:
        >>> with FastSAM() as model, Records() as records:  # doctest: +SKIP
        ...     jobs = [Job(Path("photo.jpg"), Path("photo"))]
        ...     settings = RunSettings.of(model, None, Selection())
        ...     tally = segment_files(model, jobs, None, Pictures(None), records, Console(), settings)
    """
    tally = Tally() if tally is None else tally
    inputs: deque[InputFile | None] = deque()

    def sources() -> Iterator[ImageFile]:
        for job in jobs:
            inputs.append(InputFile.at(job.path))
            yield _source(job.path, selection)

    stream = model.segment_stream(sources(), prompt, keep_images=pictures.output is not None)
    for job, item in zip(with_progress(jobs, console), stream, strict=True):
        record, error = _record(item, job, prompt, pictures, settings, inputs.popleft())
        records.write(record)
        tally.files.update({kind: len(paths) for kind, paths in record["files"].items()})
        if error is None:
            tally.done += 1
            say(console, _line(job.path, item.result(), record["files"].get("overlay")))
            continue
        tally.failed.append((job.path, error))
        if len(jobs) > 1:  # the error of a single image becomes that of the command
            say(console, f"fastsam: {error}" if str(job.path) in str(error) else f"fastsam: {job.path}: {error}")
    return tally


def _source(path: Path, selection: Selection) -> ImageFile:
    file = sys.stdin.buffer if path == STANDARD_INPUT else path
    return ImageFile(file, selection.page, selection.bands, selection.value_range)


def _record(
    item: StreamItem,
    job: Job,
    prompt: Prompt | Sequence[Prompt] | None,
    pictures: Pictures,
    settings: RunSettings,
    source: InputFile | None,
) -> tuple[dict[str, Any], FastSamError | None]:
    """Write the pictures of an image. Its record, and the error if it failed."""
    files: dict[str, list[str]] = {}
    error = item.error
    if item.segments is None:
        plain: dict[str, Any] = {"image": {"path": str(job.path)}, "model": dict(settings.model)}
    else:
        plain = segments_json(item.segments, job.path, settings.model)
        try:
            _write_pictures(item.image, item.segments, prompt, job.name, pictures, files)
        except FastSamError as refused:
            error = refused
    plain["image"].update(settings.reading or {})
    record = {
        "image": plain.pop("image"),
        "input": None if source is None else source.to_json(),
        "name": job.name.as_posix(),
        "files": files,
        **({} if error is None else {"error": error_json(error)}),
        "settings": settings.to_json(),
        **plain,
    }
    return record, error


def _write_pictures(
    image: NDArray[np.uint8] | None,
    segments: Segments,
    prompt: Prompt | Sequence[Prompt] | None,
    name: Path,
    pictures: Pictures,
    files: dict[str, list[str]],
) -> None:
    """Write what is wanted; `files` gets each file as soon as it is written. The stream keeps no image for none."""
    if pictures.output is None or image is None:
        return
    overlay = draw_prompts(draw_segments(image, segments, contours=pictures.contours), prompt)
    overlays = files["overlay"] = []
    _save(pictures.output.file(name, OVERLAY), overlay, overlays)
    if pictures.masks:
        masks = files["masks"] = []
        for i, path in enumerate(pictures.output.numbered(name, MASKS, len(segments))):
            _save(path, mask_image(segments, i), masks)
    if pictures.cutouts:
        cutouts = files["cutouts"] = []
        for i, path in enumerate(pictures.output.numbered(name, CUTOUTS, len(segments))):
            _save(path, cutout(image, segments, i), cutouts)


def _save(path: Path, image: NDArray[np.uint8], files: list[str]) -> None:
    save_image(path, image)
    files.append(str(path))


def _line(path: Path, segments: Segments, overlays: Sequence[str] | None) -> str:
    count = f"{len(segments)} segment{'' if len(segments) == 1 else 's'}"
    total = sum(segments.timing_ms.values())
    times = [(name, segments.timing_ms[stage]) for stage, name in _PROCESSORS.items() if stage in segments.timing_ms]
    part = f" ({times[0][0]} {times[0][1]:.0f} ms)" if times else ""
    return f"{path}: {count}, {total:.0f} ms{part}{f' → {overlays[0]}' if overlays else ''}"
