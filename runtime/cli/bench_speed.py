"""`fastsam bench speed`: time models on your own images. Heavy libraries are imported by the command."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..engines.registry import overview
from .groups import with_groups
from .options import NetworkOptions, option
from .results import STANDARD_OUTPUT, json_file, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from ..measure.run import ModelArgument
    from ..measure.speed import ModelSpeed

ImagesArgument = Annotated[
    list[str], typer.Argument(metavar="IMAGE|FOLDER|GLOB…", help="Image files, folders, patterns.", show_default=False)
]
ModelsOption = Annotated[
    list[str] | None,
    option(
        "\\[NAME=]PATH|ADDRESS\\[@SETTING=VALUE,…], such as model.onnx@threads=1; settings: device, engine, precision, "
        "threads, imgsz. May be repeated. Default: the demo model.",
        "--model",
        "-m",
        metavar="MODEL",
    ),
]
EnginesOption = Annotated[
    list[str] | None,
    option(f"Engine that opens the files: {overview()}. May be repeated, to time several.", "--engine"),
]
RunsOption = Annotated[int, option("Timed rounds.")]
WarmupOption = Annotated[int, option("Rounds before them, which are not timed.")]
JsonOption = Annotated[str | None, option("The figures as JSON; - is standard output.", "--json", metavar="FILE|-")]


@with_groups
def speed(
    images: ImagesArgument,
    *,
    models: ModelsOption = None,
    engine: EnginesOption = None,
    runs: RunsOption = 10,
    warmup: WarmupOption = 2,
    network: NetworkOptions,
    json_target: JsonOption = None,
) -> None:
    """Time models on images, stage by stage: median and 95th percentile. Several models run in turn.

    Example: fastsam bench speed photo.jpg --engine onnxruntime --engine openvino
    """
    from ..batch.console import open_console, with_progress
    from ..measure.run import files_of, open_argument
    from ..measure.speed import measure_speed
    from ..sources.paths import find_images
    from ..system.identity import check_outputs

    paths, settings = find_images(images), network.settings()
    arguments = _arguments(models or [], engine or [])
    check_outputs([*paths, *files_of(arguments)], {"--json": json_file(json_target)})
    with ExitStack() as stack:
        opened = {argument.name: stack.enter_context(open_argument(argument, settings)) for argument in arguments}
        show = partial(with_progress, console=open_console(stderr=True), label="rounds")
        measured = measure_speed(opened, paths, runs=runs, warmup=warmup, progress=show)
    report = {
        "settings": {**settings.to_json(), "runs": runs, "warmup": warmup},
        "images": [str(path) for path in paths],
        "models": [model.to_json() for model in measured],
    }
    write_json(json_target, report)
    open_console(stderr=json_target == STANDARD_OUTPUT).print(_table(measured, len(paths), runs))


def _arguments(models: list[str], engines: list[str]) -> list[ModelArgument]:
    """The models to time. A model that names no engine is timed with each of `engines`.

    Raises:
        ParameterError: two models have the same name, or a setting is unknown.
    """
    from ..measure.run import ModelArgument, parse_model, refuse_equal_names
    from ..weights.demo import demo_model_path

    arguments = []
    for model in [parse_model(text) for text in models] or [parse_model(str(demo_model_path()))]:
        variants = [] if "engine" in model.settings else engines
        arguments += [
            ModelArgument(f"{model.name}, {engine}", model.source, {**model.settings, "engine": engine})
            for engine in variants
        ] or [model]
    refuse_equal_names(arguments)
    return arguments


def _table(models: list[ModelSpeed], images: int, runs: int) -> Table:
    """A row for each stage, two columns for each model."""
    from rich.table import Table

    caption = f"Milliseconds per image: {images} image{'s' if images != 1 else ''}, {runs} rounds, models in turn."
    table = Table(caption=caption, caption_justify="left")
    table.add_column("stage")
    for model in models:
        table.add_column(model.name, justify="right")
        table.add_column("p95", justify="right")
    times = [model.times() for model in models]
    stages = dict.fromkeys(stage for stages_ms in times for stage in stages_ms if stage != "total")
    for stage in [*stages, "total"]:
        measured = [stages_ms.get(stage) for stages_ms in times]
        cells = [text for ms in measured for text in ((f"{ms.median:.1f}", f"{ms.p95:.1f}") if ms else ("", ""))]
        table.add_row(stage, *cells, style="bold" if stage == "total" else None)
    totals = {
        "first image": [f"{model.first_ms:.1f}" for model in models],
        "images a second": [f"{model.images_per_second:.2f}" for model in models],
        "segments": [str(sum(model.segments)) for model in models],
    }
    for quantity, texts in totals.items():
        table.add_row(quantity, *[cell for text in texts for cell in (text, "")])
    return table
