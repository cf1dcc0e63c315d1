"""`fastsam bench fidelity`: compare models on your own images. Heavy libraries are imported by the command."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .groups import with_groups
from .options import NetworkOptions, network_option, option, result_option
from .results import STANDARD_OUTPUT, json_file, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from ..measure.gate import FidelityLimits
    from ..measure.report import Report

NOT_KEPT = 1
"""Exit code if a limit is not met. Errors exit with 2, so that a pipeline can distinguish them."""

_gate_option = partial(option, panel="Gate")

ReferenceArgument = Annotated[
    str, typer.Argument(metavar="REFERENCE", help="The model to compare with, such as the FP32 ONNX file.")
]
CandidatesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CANDIDATE…",
        help="The models to compare: \\[NAME=]PATH|ADDRESS\\[@SETTING=VALUE,…], such as "
        "int8=model-int8.onnx, model.onnx@engine=openvino or grpc://HOST:8001/fastsam. Settings: device, engine, "
        "precision, threads, imgsz.",
    ),
]
ImagesOption = Annotated[
    list[str], option("Images to compare on. May be repeated.", "--images", "-i", metavar="IMAGE|FOLDER|GLOB")
]
SquareOption = Annotated[bool, network_option("Square inputs, to compare with a model of fixed size.", "--square")]
OutputOption = Annotated[
    Path | None,
    result_option("Folder for report.md, report.json and pictures of the worst images.", "--output", "-o"),
]
JsonOption = Annotated[
    str | None, result_option("The report as JSON; - is standard output.", "--json", metavar="FILE|-")
]
WorstOption = Annotated[int, result_option("Number of pictures for each candidate.", min=0)]


@dataclass(frozen=True)
class GateOptions:
    """The limits that a candidate has to meet.

    Example:
        >>> GateOptions(min_recall=0.98).limits().recall
        0.98
    """

    min_recall: Annotated[
        float | None, _gate_option("Share of the reference's detections that the candidate has too, at --at-iou.")
    ] = None
    min_precision: Annotated[
        float | None, _gate_option("Share of the candidate's detections that the reference has too, at --at-iou.")
    ] = None
    at_iou: Annotated[float, _gate_option("Mask IoU for --min-recall and --min-precision, 0.5 … 1.")] = 0.75
    min_mean_iou: Annotated[float | None, _gate_option("Mean IoU of matched masks.")] = None
    min_iou: Annotated[float | None, _gate_option("IoU of every matched mask.")] = None
    from_px: Annotated[int, _gate_option("--min-iou applies to masks of at least this many pixels.")] = 0
    min_boundary_f: Annotated[
        float | None, _gate_option("Mean F-measure of outlines, within 0.0075 of the image diagonal.")
    ] = None
    max_box_px: Annotated[float | None, _gate_option("Deviation of each edge of a matched box, pixels.")] = None
    max_score_deviation: Annotated[float | None, _gate_option("Deviation of each matched score.")] = None

    def limits(self) -> FidelityLimits:
        """The limits of the gate. Raises ParameterError if a value is out of range."""
        from ..measure.gate import FidelityLimits

        return FidelityLimits(
            recall=self.min_recall,
            precision=self.min_precision,
            mean_iou=self.min_mean_iou,
            min_iou=self.min_iou,
            boundary_f=self.min_boundary_f,
            box_px=self.max_box_px,
            score=self.max_score_deviation,
            at_iou=self.at_iou,
            from_px=self.from_px,
        )


@with_groups
def fidelity(
    context: typer.Context,
    reference: ReferenceArgument,
    candidates: CandidatesArgument,
    images: ImagesOption,
    *,
    network: NetworkOptions,
    square: SquareOption = False,
    gate: GateOptions,
    output: OutputOption = None,
    json_target: JsonOption = None,
    worst: WorstOption = 4,
) -> None:
    """Compare candidates with a reference, detection by detection: a gate for build pipelines.

    Detections are matched one to one by mask IoU. The exit code is 0 if every candidate meets every limit, 1 if one
    does not, 2 on an error. Without limits, the command only measures.

    Example: fastsam bench fidelity fp32.onnx int8.onnx --images photos --min-mean-iou 0.95
    """
    from ..batch.console import open_console
    from ..measure.run import files_of, parse_model, run_fidelity
    from ..sources.paths import find_images
    from ..system.identity import check_outputs

    limits = gate.limits()
    models = [parse_model(text) for text in (reference, *candidates)]
    paths = find_images(images)
    reports = {"--output": output / "report.json", "--output for report.md": output / "report.md"} if output else {}
    check_outputs([*paths, *files_of(models)], {**reports, "--json": json_file(json_target)})
    report = run_fidelity(
        models,
        paths,
        network.settings(rect=False if square else None),
        limits,
        worst=worst if output is not None else 0,
        console=open_console(stderr=True),
        opener=context.obj,
    )
    if output is not None:
        report.write(output)
    write_json(json_target, report.to_json())
    _show(report, open_console(stderr=json_target == STANDARD_OUTPUT))
    if not report.passed:
        raise typer.Exit(NOT_KEPT)


def _show(report: Report, console: Console) -> None:
    """Print the table, the notes, and the limits that are not met."""
    from ..batch.console import complain, say

    console.print(report.table())
    for result in report.results:
        for note in result.notes:
            say(console, f"note: {result.candidate.name}: {note}")
    for line in report.failures():
        complain("fastsam", f"limit not met: {line}")
