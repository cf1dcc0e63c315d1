"""Segment many image files, and write files and a record for each. A bad image does not stop the others."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FastSamError
from ..pipeline import FastSAM
from ..segmenters.stream import StreamItem
from ..segments import Prompt, Segments
from ..sources.paths import STANDARD_INPUT
from ..stages.image import ImageFile, ImageLoader
from ..stages.reading.decoded import Selection
from ..tiling.grid import Tiles
from .console import is_verbose, say, with_progress
from .datasets import Dataset, DoneImage
from .outputs import OutputFolder
from .pictures import KINDS, Pictures
from .records import InputFile, Records, RunSettings, error_json, segments_json

if TYPE_CHECKING:
    from rich.console import Console

_PROCESSORS = {"server": "server", "device": "GPU", "engine": "network"}
"""Stage that takes most of the time → what runs it."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """The files to write for each image.

    Attributes:
        folder: None for no files.
        pictures: kinds of pictures.
        dataset: label files; None for none.
        format: name of the data set.

    Example:
        >>> Outputs().to_json()
        {}
    """

    folder: OutputFolder | None = None
    pictures: Pictures = field(default_factory=Pictures)
    dataset: Dataset | None = None
    format: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, for records; empty without files."""
        if self.folder is None:
            return {}
        kind = {} if self.format is None else {"format": self.format}
        return {"folder": str(self.folder.folder), **self.pictures.to_json(), **kind}

    def need_pixels(self, path: Path) -> bool:
        """Whether the pixels of an image are needed to write its files."""
        return bool(self.pictures.kinds) or (self.dataset is not None and self.dataset.needs_pixels(path))

    def write(self, done: DoneImage, prompt: Prompt | Sequence[Prompt] | None, files: dict[str, list[str]]) -> None:
        """Write the files of an image; `files` gets each one as soon as it is written, by kind.

        Raises:
            FastSamError: a file cannot be written.
        """
        if self.dataset is not None and self.format is not None:
            written = self.dataset.write(done)
            if written:
                files[self.format] = [str(path) for path in written]
        if self.folder is not None and done.pixels is not None:
            self.pictures.write(self.folder, done.name, done.pixels, done.segments, prompt, files)


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
        together: files that were written about all images.

    Example:
        >>> str(Tally(done=2, skipped=1))
        '2 done, 0 failed, 1 skipped'
    """

    done: int = 0
    skipped: int = 0
    failed: list[tuple[Path, FastSamError]] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)
    together: list[Path] = field(default_factory=list)

    def written(self) -> str:
        """The files, for a message.

        Example:
            >>> Tally(files=Counter(overlay=2, masks=1), together=[Path("out/segments.csv")]).written()
            ' (2 overlays, 1 mask, segments.csv)'
        """
        kinds = [_counted(number, kind) for kind, number in self.files.items() if number]
        parts = ", ".join([*kinds, *(path.name for path in self.together)])
        return f" ({parts})" if parts else ""

    def __str__(self) -> str:
        return f"{self.done} done, {len(self.failed)} failed, {self.skipped} skipped"


def segment_files(
    model: FastSAM,
    jobs: Sequence[Job],
    prompt: Prompt | Sequence[Prompt] | None,
    outputs: Outputs,
    records: Records,
    console: Console,
    settings: RunSettings,
    selection: Selection = Selection(),  # noqa: B008 - a frozen value
    tally: Tally | None = None,
    loader: ImageLoader | None = None,
    *,
    tiles: Tiles | None = None,
) -> Tally:
    """Segment each file, write its files and its record, and print a line about it.

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
        outputs: the files to write.
        records: gets a record for each image.
        console: for messages. On a terminal it shows a progress bar after two seconds.
        settings: of the run, for the records.
        selection: page, bands and range of values to read from each file.
        tally: is kept up to date; None for a new one.
        loader: reads the files; None for the usual way.
        tiles: how large images are cut; None: they are not.

    Returns:
        The tally. Images that failed are in it; all others are done.

    Raises:
        FastSamError: a record cannot be written; the images before it are done.

    Example:
        >>> with FastSAM() as model, Records() as records:  # doctest: +SKIP
        ...     jobs = [Job(Path("photo.jpg"), Path("photo"))]
        ...     settings = RunSettings.of(model, None, Selection())
        ...     tally = segment_files(model, jobs, None, Outputs(), records, Console(), settings)
    """
    tally = Tally() if tally is None else tally
    inputs: deque[InputFile | None] = deque()

    def sources() -> Iterator[ImageFile]:
        for job in jobs:
            inputs.append(InputFile.at(job.path))
            yield _source(job.path, selection, loader)

    keep = any(outputs.need_pixels(job.path) for job in jobs)
    stream = model.segment_stream(sources(), prompt, keep_images=keep, tiles=tiles)
    for job, item in zip(with_progress(jobs, console), stream, strict=True):
        record, error = _record(item, job, prompt, outputs, settings, inputs.popleft())
        records.write(record)
        tally.files.update({kind: len(paths) for kind, paths in record["files"].items()})
        if error is None:
            tally.done += 1
            say(console, _line(job.path, item.result(), record["files"]))
            if is_verbose():
                for line in _details(item.result(), record["files"]):
                    say(console, line)
            continue
        tally.failed.append((job.path, error))
        if len(jobs) > 1:  # the error of a single image becomes that of the command
            named = str(error) if str(job.path) in str(error) else f"{job.path}: {error}"
            say(console, f"fastsam: {named}", error=True)
    return tally


def _source(path: Path, selection: Selection, loader: ImageLoader | None) -> ImageFile:
    file = sys.stdin.buffer if path == STANDARD_INPUT else path
    return ImageFile(file, selection.page, selection.bands, selection.value_range, loader)


def _record(
    item: StreamItem,
    job: Job,
    prompt: Prompt | Sequence[Prompt] | None,
    outputs: Outputs,
    settings: RunSettings,
    source: InputFile | None,
) -> tuple[dict[str, Any], FastSamError | None]:
    """Write the files of an image. Its record, and the error if it failed."""
    files: dict[str, list[str]] = {}
    error = item.error
    if item.segments is None:
        plain: dict[str, Any] = {"image": {"path": str(job.path)}, "model": dict(settings.model)}
    else:
        plain = segments_json(item.segments, job.path, settings.model)
        try:
            outputs.write(DoneImage(job.path, job.name, item.segments, item.image), prompt, files)
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


def _details(segments: Segments, files: Mapping[str, Sequence[str]]) -> list[str]:
    times = ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in segments.timing_ms.items())
    return [f"  {line}" for line in (times, *(path for paths in files.values() for path in paths))]


def _counted(number: int, kind: str) -> str:
    noun = kind.removesuffix("s") if kind in KINDS else f"{kind} file"
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _line(path: Path, segments: Segments, files: Mapping[str, Sequence[str]]) -> str:
    count = f"{len(segments)} segment{'' if len(segments) == 1 else 's'}"
    total = sum(segments.timing_ms.values())
    times = [(name, segments.timing_ms[stage]) for stage, name in _PROCESSORS.items() if stage in segments.timing_ms]
    part = f" ({times[0][0]} {times[0][1]:.0f} ms)" if times else ""
    first = next((paths[0] for paths in files.values() if paths), None)
    return f"{path}: {count}, {total:.0f} ms{part}{f' → {first}' if first else ''}"
