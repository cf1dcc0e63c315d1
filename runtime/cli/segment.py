"""`fastsam segment`: images, one after the other. Heavy libraries are imported by the command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..connection import is_address
from ..errors import FastSamError
from .groups import with_groups
from .options import ImagesArgument, ModelOption, NetworkOptions, PromptOptions, ReadingOptions, ResultOptions
from .results import json_file

if TYPE_CHECKING:
    from rich.console import Console

    from ..batch.images import Tally
    from ..sources.paths import ImageSearch


@with_groups
def segment(
    images: ImagesArgument,
    *,
    model: ModelOption = None,
    prompts: PromptOptions,
    network: NetworkOptions,
    reading: ReadingOptions,
    results: ResultOptions,
) -> None:
    """Segment images: everything in them, or the objects that points, boxes and texts select.

    A bad image, or a folder without images, does not stop the others. It is reported, and the exit code is then 2.
    A run that was interrupted can be continued with --resume.

    Example: fastsam segment photo.jpg --points "[[285,150]]" --json -
    """
    from rich.console import Console

    from ..batch.images import Pictures, Tally, segment_files
    from ..batch.outputs import OutputFolder
    from ..batch.records import RunSettings
    from ..batch.run import Run
    from ..opening import model_files, open_model
    from ..sources.paths import search_images
    from ..system.identity import check_outputs

    prompt, settings, selection = prompts.parsed(model), network.settings(), reading.selection()
    search, console = search_images(images), Console(stderr=True)
    _report(search, console)
    inputs = [*search.paths, *model_files(model, prompts.clip)]
    outputs = {"--json": json_file(results.json_target)}
    check_outputs(inputs, outputs)
    tally = Tally()
    with ExitStack() as stack:
        folder = OutputFolder(results.folder, inputs, outputs) if results.folder is not None else None
        run = stack.enter_context(Run(search.paths, results.json_target, results.folder, resume=results.resume))
        pictures = Pictures(folder, results.masks, results.cutouts, results.contours)
        fastsam = stack.enter_context(open_model(model, settings, clip=prompts.clip))
        file = Path(model) if model is not None and not is_address(model) else None
        described = RunSettings.of(fastsam, prompt, selection, pictures.to_json(), file=file)
        jobs = run.begin(described)
        tally.skipped = len(search.paths) - len(jobs)
        written = [str(path) for path in (results.folder, json_file(results.json_target)) if path is not None]
        stack.enter_context(_summary(tally, len(search.paths), written, console))
        segment_files(fastsam, jobs, prompt, pictures, run.records, console, described, selection, tally)
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
        say(console, f"fastsam: {error}")
    if not search.paths:
        raise FastSamError("no image found; see the lines above")


@contextmanager
def _summary(tally: Tally, count: int, outputs: Sequence[str], console: Console) -> Iterator[None]:
    """Say at the end what was done, whatever ends the run. A single image has a line of its own."""
    from ..batch.console import say

    try:
        yield
    finally:
        left = count - tally.done - len(tally.failed) - tally.skipped
        where = f" → {', '.join(outputs)}" if outputs else ""
        if count > 1 or tally.skipped:
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
