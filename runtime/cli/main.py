"""The command `fastsam`: parses arguments, runs, returns an exit code. The commands import heavy libraries."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from .. import __version__
from ..batch.console import warnings_shown
from ..errors import FastSamError, opencv_fault
from ..system.signals import exit_on_signals
from .bench_fidelity import app as bench_app
from .bench_speed import speed
from .groups import with_groups
from .options import (
    ImagesArgument,
    ModelFileOption,
    ModelOption,
    NetworkOptions,
    PromptOptions,
    ReadingOptions,
    ResultOptions,
)
from .results import json_file
from .video import video

if TYPE_CHECKING:
    from rich.console import Console

    from ..sources.paths import ImageSearch

app = typer.Typer(
    name="fastsam",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a bug shows an ordinary traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)

FAILED = 2
"""Exit code of every expected failure."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastsam-deploy {__version__}")
        raise typer.Exit


bench_app.command("speed")(speed)
app.add_typer(bench_app)
app.command()(video)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Segment anything in images with FastSAM: no PyTorch, no GPU needed."""


@app.command()
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

    Example: fastsam segment photo.jpg --points "[[285,150]]" --json -
    """
    from rich.console import Console

    from ..batch.images import Pictures, segment_files
    from ..batch.outputs import JsonLines, OutputFolder
    from ..opening import model_files, open_model
    from ..sources.paths import search_images
    from ..system.identity import check_outputs

    prompt, settings, selection = prompts.parsed(model), network.settings(), reading.selection()
    search, console = search_images(images), Console(stderr=True)
    _report(search, console)
    paths = search.paths
    inputs = [*paths, *model_files(model, prompts.clip)]
    outputs = {"--json": json_file(results.json_target)}
    check_outputs(inputs, outputs)
    with ExitStack() as stack:
        lines = stack.enter_context(JsonLines(results.json_target)) if results.json_target is not None else None
        folder = OutputFolder(results.folder, inputs, outputs) if results.folder is not None else None
        pictures = Pictures(folder, results.masks, results.cutouts, results.contours)
        fastsam = stack.enter_context(open_model(model, settings, clip=prompts.clip))
        failed = segment_files(fastsam, paths, prompt, pictures, lines, console, selection)
        if len(paths) == 1 and failed:
            raise failed[0][1]
        if len(failed) == len(paths):  # raised here, so that no empty file replaces the JSON of an earlier run
            raise FastSamError(f"all {len(paths)} images failed; see the lines above")
    if failed:
        raise FastSamError(f"{len(failed)} of {len(paths)} images failed, the others are done; see the lines above")
    if search.errors:
        raise FastSamError(f"{len(search.errors)} of {len(images)} arguments failed, the images of the others are done")


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


@app.command()
def doctor(
    model: ModelFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show what is installed, which engines and devices work, and why the others do not.

    Example: fastsam doctor --json
    """
    from ..measure.doctor import examine, lines

    report = examine(model)
    typer.echo(json.dumps(report, indent=2) if as_json else "\n".join(lines(report)))
    if not any(engine["works"] for engine in report["engines"]):
        raise FastSamError("no engine works on this machine; see the reasons above")


def main() -> int:
    """Run the command: exit code 0, or 2 with one line on standard error. A bug shows its traceback.

    Example:
        >>> sys.argv = ["fastsam", "segment", "photo.jpg"]  # doctest: +SKIP
        >>> main()  # doctest: +SKIP
        0
    """
    try:
        with exit_on_signals(), warnings_shown("fastsam"):
            app()
    except FastSamError as error:
        print(f"fastsam: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    except ImportError as error:
        fault = opencv_fault(error)
        if fault is None:
            raise
        print(f"fastsam: {fault}", file=sys.stderr)  # noqa: T201
        return FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
