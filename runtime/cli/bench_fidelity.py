"""`fastsam bench`: measure models on one's own images. Heavy libraries are imported by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .settings import json_file, model_files

if TYPE_CHECKING:
    from rich.console import Console

    from ..measure.report import Report

app = typer.Typer(name="bench", help="Measure models on your own images.", no_args_is_help=True, add_completion=False)

NOT_KEPT = 1
"""Exit code when a limit is not kept; 2 stays for errors, so that a pipeline can tell them apart."""

_MODELS, _GATE, _RESULTS = "Models", "Gate", "Results"


def _limit(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_GATE, show_default=False)


def _plain(text: str, panel: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


ReferenceArgument = Annotated[
    str, typer.Argument(metavar="REFERENCE", help="The model that is believed, such as the FP32 ONNX file.")
]
CandidatesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CANDIDATE…",
        help="Models that have to be like it: \\[NAME=]PATH|ADDRESS\\[@SETTING=VALUE,…], such as "
        "int8=model-int8.onnx, model.onnx@engine=openvino or grpc://HOST:8001/fastsam. Settings: device, engine, "
        "precision, threads, imgsz.",
    ),
]
ImagesOption = Annotated[
    list[str],
    typer.Option("--images", "-i", metavar="IMAGE|FOLDER|GLOB", help="What to compare on. May be repeated."),
]
ConfOption = Annotated[float, _plain("Keep segments with a score above it.", _MODELS)]
IouOption = Annotated[float, _plain("Of boxes that overlap more than this the better stays.", _MODELS)]
MaxDetOption = Annotated[int, _plain("At most this many segments in an image.", _MODELS)]
ImgszOption = Annotated[
    int | None, _plain("Longest side of the input. Default: the model's own.", _MODELS, show_default=False)
]
SquareOption = Annotated[bool, _plain("Square inputs; for comparing with a model of fixed size.", _MODELS, "--square")]
DeviceOption = Annotated[str, _plain("Of models in this process: cpu, cuda or cuda:N.", _MODELS)]
ThreadsOption = Annotated[int | None, _plain("CPU threads of models in this process.", _MODELS, show_default=False)]
MinRecall = Annotated[float | None, _limit("Share of the reference's detections that the candidate has, at --at-iou.")]
MinPrecision = Annotated[
    float | None, _limit("Share of the candidate's detections that the reference has, at --at-iou.")
]
AtIou = Annotated[float, _plain("Mask IoU that --min-recall and --min-precision are for, 0.5 … 1.", _GATE)]
MinMeanIou = Annotated[float | None, _limit("Mean IoU of matched masks.")]
MinIou = Annotated[float | None, _limit("IoU of every matched mask.")]
FromPx = Annotated[int, _plain("--min-iou is for masks of at least so many pixels.", _GATE)]
MinBoundaryF = Annotated[float | None, _limit("Mean F-measure of outlines, within 0.0075 of the image's diagonal.")]
MaxBoxPx = Annotated[float | None, _limit("Deviation of every edge of a matched box, pixels.")]
MaxScoreDeviation = Annotated[float | None, _limit("Deviation of every matched score.")]
OutputOption = Annotated[
    Path | None,
    _plain(
        "Folder for report.md, report.json and pictures of the worst images.",
        _RESULTS,
        "--output",
        "-o",
        show_default=False,
    ),
]
JsonOption = Annotated[
    str | None,
    _plain("The report as JSON; - is standard output.", _RESULTS, "--json", metavar="FILE|-", show_default=False),
]
WorstOption = Annotated[int, _plain("So many pictures for each candidate.", _RESULTS, min=0)]


@app.callback()
def _commands() -> None:
    """Measure models on your own images."""


@app.command()
def fidelity(
    context: typer.Context,
    reference: ReferenceArgument,
    candidates: CandidatesArgument,
    images: ImagesOption,
    conf: ConfOption = 0.4,
    iou: IouOption = 0.9,
    max_det: MaxDetOption = 300,
    imgsz: ImgszOption = None,
    square: SquareOption = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = None,
    min_recall: MinRecall = None,
    min_precision: MinPrecision = None,
    at_iou: AtIou = 0.75,
    min_mean_iou: MinMeanIou = None,
    min_iou: MinIou = None,
    from_px: FromPx = 0,
    min_boundary_f: MinBoundaryF = None,
    max_box_px: MaxBoxPx = None,
    max_score_deviation: MaxScoreDeviation = None,
    output: OutputOption = None,
    json_target: JsonOption = None,
    worst: WorstOption = 4,
) -> None:
    """Compare candidates with a reference, detection by detection: a gate for build pipelines.

    Detections are matched one to one by mask IoU. The exit code is 0 when every candidate keeps every limit, 1 when
    one does not, 2 on an error. Without limits it only measures.
    """
    from rich.console import Console

    from ..measure.gate import FidelityLimits
    from ..measure.run import parse_model, run_fidelity
    from ..sources.paths import find_images
    from ..system.identity import check_outputs

    limits = FidelityLimits(
        recall=min_recall,
        precision=min_precision,
        mean_iou=min_mean_iou,
        min_iou=min_iou,
        boundary_f=min_boundary_f,
        box_px=max_box_px,
        score=max_score_deviation,
        at_iou=at_iou,
        from_px=from_px,
    )
    arguments = [parse_model(text) for text in (reference, *candidates)]
    reports = {"--output": output / "report.json", "--output for report.md": output / "report.md"} if output else {}
    check_outputs(
        [*find_images(images), *(file for argument in arguments for file in model_files(argument.source))],
        {**reports, "--json": json_file(json_target)},
    )
    settings = {"conf": conf, "iou": iou, "max_det": max_det, "imgsz": imgsz, "device": device, "threads": threads}
    report = run_fidelity(
        arguments,
        images,
        {**settings, "rect": False if square else None},
        limits,
        worst=worst if output is not None else 0,
        console=Console(stderr=True),
        opener=context.obj,
    )
    _tell(report, output, json_target, Console(stderr=json_target == "-"))
    if not report.passed:
        raise typer.Exit(NOT_KEPT)


def _tell(report: Report, output: Path | None, json_target: str | None, console: Console) -> None:
    """Write what is wanted, then the table, notes and the limits that were not kept."""
    from ..batch.outputs import JsonLines

    if output is not None:
        report.write(output)
    if json_target is not None:
        with JsonLines(json_target) as lines:
            lines.write(report.to_json())
    console.print(report.table())
    for result in report.results:
        for note in result.notes:
            console.print(f"note: {result.candidate.name}: {note}", markup=False, highlight=False, soft_wrap=True)
    for line in report.failures():
        typer.echo(f"fastsam: not kept: {line}", err=True)
