"""`fastsam segment`: images, one after the other. Heavy libraries are imported by the command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..connection import is_address
from ..errors import FastSamError, ParameterError
from .config import with_config
from .groups import with_groups
from .image_options import ReadingOptions, TileOptions
from .options import (
    ImagesArgument,
    ModelOption,
    NetworkOptions,
    PromptOptions,
    RecursiveOption,
    ResultOptions,
)
from .results import json_file

if TYPE_CHECKING:
    from rich.console import Console

    from ..batch.images import Outputs, Tally
    from ..sources.paths import ImageSearch
    from ..stages.reading.decoded import Selection


@with_config
@with_groups
def segment(
    images: ImagesArgument,
    *,
    recursive: RecursiveOption = False,
    model: ModelOption = None,
    prompts: PromptOptions,
    network: NetworkOptions,
    tiling: TileOptions,
    reading: ReadingOptions,
    results: ResultOptions,
) -> None:
    """Segment images: everything in them, or the objects that points, boxes and texts select.

    A bad image, or a folder without images, does not stop the others. It is reported, and the exit code is then 2.
    A run that was interrupted can be continued with --resume.

    Example: fastsam segment photo.jpg --points "[[285,150]]" --json -
    """
    from ..batch.console import is_verbose, open_console, say
    from ..batch.images import Tally, segment_files
    from ..batch.records import RunSettings
    from ..batch.run import Run
    from ..opening import model_files, open_model
    from ..sources.paths import search_images
    from ..system.identity import check_outputs

    prompt, settings, selection = prompts.parsed(model), network.settings(), reading.selection()
    tiles = tiling.parsed()
    exclude = [] if results.folder is None else [results.folder]
    search, console = search_images(images, recursive=recursive, exclude=exclude), open_console(stderr=True)
    _report(search, console)
    inputs = [*search.paths, *model_files(model, prompts.clip)]
    outputs = {"--json": json_file(results.json_target)}
    check_outputs(inputs, outputs)
    tally = Tally()
    with ExitStack() as stack:
        written = _outputs(results, inputs, outputs, selection)
        reads_segments = written.dataset is not None and written.dataset.reads_segments
        run = stack.enter_context(
            Run(search.paths, results.json_target, results.folder, resume=results.resume, reads_segments=reads_segments)
        )
        fastsam = stack.enter_context(open_model(model, settings, clip=prompts.clip))
        if is_verbose():
            say(console, f"{fastsam!r}, imgsz {fastsam.imgsz}, {fastsam.thresholds}")
        file = Path(model) if model is not None and not is_address(model) else None
        described = RunSettings.of(fastsam, prompt, selection, written.to_json(), file=file, tiles=tiles)
        jobs = run.begin(described)
        tally.skipped = len(search.paths) - len(jobs)
        stack.enter_context(_summary(tally, len(search.paths), results, console))
        loader = stack.enter_context(reading.loader())
        segment_files(
            fastsam, jobs, prompt, written, run.records, console, described, selection, tally, loader, tiles=tiles
        )
        if written.dataset is not None and tally.done + tally.skipped:
            tally.together += written.dataset.finish(fastsam.spec.class_names, run.all_records)
    _raise_failures(tally, search, len(images))


def _report(search: ImageSearch, console: Console) -> None:
    """Print the arguments that refer to no image, and the skipped files.

    Raises:
        FastSamError: there is no image at all.
    """
    from ..batch.console import say

    search.report_skipped()
    if not search.paths and len(search.errors) == 1:
        raise search.errors[0]
    for error in search.errors:
        say(console, f"fastsam: {error}", error=True)
    if not search.paths:
        raise FastSamError("no image found; see the lines above")


def _outputs(
    results: ResultOptions, inputs: Sequence[Path], others: Mapping[str, Path | None], selection: Selection
) -> Outputs:
    """The files to write. Raises FastSamError: the folder cannot be made, or an option does not fit."""
    from ..batch.datasets import DatasetOptions, open_dataset
    from ..batch.images import Outputs
    from ..batch.outputs import OutputFolder
    from ..batch.pictures import Pictures

    pictures = Pictures(results.pictures, results.contours, results.picture_type.value)
    options = DatasetOptions(results.polygons, results.copy_images, bool(selection.to_json()))
    if results.dataset is None and (results.polygons or results.copy_images):
        name = "--polygons" if results.polygons else "--copy-images"
        raise ParameterError(f"{name} without --format; add --format {'coco' if results.polygons else 'yolo'}")
    if results.folder is None:
        return Outputs(None, pictures)
    folder = OutputFolder(results.folder, inputs, others)
    if results.dataset is None:
        return Outputs(folder, pictures)
    kind = results.dataset.value
    if kind == "labelmap":
        folder.refuse_beside(inputs, "label maps would be taken for images by the next run")
    return Outputs(folder, pictures, open_dataset(kind, folder, options), kind)


@contextmanager
def _summary(tally: Tally, count: int, results: ResultOptions, console: Console) -> Iterator[None]:
    """Say at the end what was done and written, whatever ends the run. A single image has a line of its own."""
    from ..batch.console import say

    try:
        yield
    finally:
        left = count - tally.done - len(tally.failed) - tally.skipped
        folder = [] if results.folder is None else [f"{results.folder}{tally.written()}"]
        places = [*folder, *filter(None, [json_file(results.json_target)])]
        where = f" → {', '.join(map(str, places))}" if places else ""
        if count > 1 or tally.skipped or (tally.done and places):
            say(console, f"fastsam: {tally}{f', {left} left' if left else ''}{where}")


def _raise_failures(tally: Tally, search: ImageSearch, arguments: int) -> None:
    failed, paths = tally.failed, search.paths
    if len(paths) == 1 and failed:
        raise failed[0][1]
    if len(failed) == len(paths):
        raise FastSamError(f"all {len(paths)} images failed; see the lines above")
    if failed:
        raise FastSamError(f"{len(failed)} of {len(paths)} images failed, the others are done; see the lines above")
    if search.errors:
        raise FastSamError(f"{len(search.errors)} of {arguments} arguments failed, the images of the others are done")
