"""`fastsam bench speed`: how long models take on one's own images. Heavy libraries are imported by the command."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..engines.registry import overview
from ..errors import ParameterError
from .settings import json_file, model_files

if TYPE_CHECKING:
    from rich.table import Table

    from ..measure.run import ModelArgument
    from ..measure.speed import ModelSpeed

ImagesArgument = Annotated[
    list[str], typer.Argument(metavar="IMAGE|FOLDER|GLOB…", help="Image files, folders, patterns.", show_default=False)
]
ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="\\[NAME=]PATH|ADDRESS\\[@SETTING=VALUE,…], such as model.onnx@threads=1; settings: device, engine, "
        "precision, threads, imgsz. May be repeated. Default: the demo model.",
        show_default=False,
    ),
]
EnginesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--engine",
        help=f"Engine that opens the files: {overview()}. May be repeated: each in turn.",
        show_default=False,
    ),
]
RunsOption = Annotated[int, typer.Option(help="Rounds that count.")]
WarmupOption = Annotated[int, typer.Option(help="Rounds before that.")]
ConfOption = Annotated[float, typer.Option(help="Keep segments with a score above it.")]
IouOption = Annotated[float, typer.Option(help="Of boxes that overlap more than this the better stays.")]
MaxDetOption = Annotated[int, typer.Option(help="At most this many segments, best first.")]
ImgszOption = Annotated[
    int | None, typer.Option(help="Longest side of the input. Default: the model's own.", show_default=False)
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; never another.")]
ThreadsOption = Annotated[
    int | None, typer.Option(help="CPU threads. Default: all that this process may use.", show_default=False)
]
JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="The figures as JSON; - is standard output.", show_default=False),
]


def speed(
    images: ImagesArgument,
    models: ModelsOption = None,
    engines: EnginesOption = None,
    runs: RunsOption = 10,
    warmup: WarmupOption = 2,
    conf: ConfOption = 0.4,
    iou: IouOption = 0.9,
    max_det: MaxDetOption = 300,
    imgsz: ImgszOption = None,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    json_target: JsonOption = None,
) -> None:
    """Time models on images, stage by stage: median and 95th percentile; several models are taken in turn."""
    from rich.console import Console

    from ..batch.console import with_progress
    from ..measure.speed import measure_speed
    from ..pipeline import FastSAM
    from ..sources.paths import find_images
    from ..system.identity import check_outputs

    paths = find_images(images)
    arguments = _arguments(models or [], engines or [])
    check_outputs(
        [*paths, *(file for argument in arguments for file in model_files(argument.source))],
        {"--json": json_file(json_target)},
    )
    settings: dict[str, Any] = {
        "conf": conf,
        "iou": iou,
        "max_det": max_det,
        "imgsz": imgsz,
        "device": device,
        "threads": threads,
    }
    with ExitStack() as stack:
        opened = {}
        for argument in arguments:
            opened[argument.name] = stack.enter_context(FastSAM(argument.source, **settings | argument.settings))
        show = partial(with_progress, console=Console(stderr=True), label="rounds")
        found = measure_speed(opened, paths, runs=runs, warmup=warmup, progress=show)
    _tell(found, paths, {**settings, "runs": runs, "warmup": warmup}, json_target)


def _arguments(models: list[str], engines: list[str]) -> list[ModelArgument]:
    """Every model, and where engines are named, every model of no engine of its own with each of them.

    Raises:
        ParameterError: two have one name, or a setting is unknown.
    """
    from ..measure.run import ModelArgument, parse_model
    from ..pipeline import demo_model_path

    given = [parse_model(text) for text in models] or [parse_model(str(demo_model_path()))]
    found = []
    for one in given:
        each = [] if "engine" in one.settings else engines
        found += [
            ModelArgument(f"{one.name}, {engine}", one.source, {**one.settings, "engine": engine}) for engine in each
        ] or [one]
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ParameterError(f"two models are called {twice}; expected a name for each; write NAME=PATH")
    return found


def _tell(found: list[ModelSpeed], paths: list[Path], settings: dict[str, Any], json_target: str | None) -> None:
    """The table; JSON where it is wanted, and the table then on standard error if JSON is on standard output."""
    from rich.console import Console

    from ..batch.outputs import JsonLines

    if json_target is not None:
        report = {"settings": settings, "images": [str(path) for path in paths]}
        with JsonLines(json_target) as lines:
            lines.write({**report, "models": [one.to_json() for one in found]})
    Console(stderr=json_target == "-").print(_table(found, len(paths), settings["runs"]))


def _table(found: list[ModelSpeed], images: int, runs: int) -> Table:
    """A stage in each row, a model in each pair of columns."""
    from rich.table import Table

    caption = f"Milliseconds for an image: {images} image{'s' if images != 1 else ''}, {runs} rounds, models in turn."
    table = Table(caption=caption, caption_justify="left")
    table.add_column("stage")
    times = [one.times() for one in found]
    for one in found:
        table.add_column(one.name, justify="right")
        table.add_column("p95", justify="right")
    stages = dict.fromkeys(stage for one in times for stage in one if stage != "total")
    for stage in [*stages, "total"]:
        cells = [(f"{one[stage].median:.1f}", f"{one[stage].p95:.1f}") if stage in one else ("", "") for one in times]
        table.add_row(stage, *[cell for pair in cells for cell in pair], style="bold" if stage == "total" else None)
    table.add_row("first image", *[cell for one in found for cell in (f"{one.first_ms:.1f}", "")])
    table.add_row("images a second", *[cell for one in found for cell in (f"{one.images_per_second:.2f}", "")])
    table.add_row("segments", *[cell for one in found for cell in (str(sum(one.segments)), "")])
    return table
