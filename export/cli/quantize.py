"""`fastsam-export quantize`: FP32 ONNX to INT8 ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ...runtime.batch.console import open_console, say
from ..errors import missing_library
from .options import ImgszOption

if TYPE_CHECKING:
    from ..quantize.sweep import Sweep
    from ..quantize.to_int8 import Quantized

_SHOWN = 12


def quantize(
    model: Annotated[Path, typer.Argument(help="FP32 .onnx file, with or without NMS in its graph.")],
    calibration: Annotated[Path, typer.Option(help="Folder of photographs like those that will be segmented.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: name of the model + -int8.onnx.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            help="tensorrt; cpu: ONNX Runtime on any processor; vnni: the same, nearer to FP32, needs VNNI; openvino."
        ),
    ] = "tensorrt",
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Find the layers that must stay in floating point; takes minutes.")
    ] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Layer or block that stays in floating point, such as model.2 or model.22.cv3. May be repeated."
        ),
    ] = None,
    keep_from: Annotated[
        Path | None, typer.Option(help="Keep the layers that a table written by --sweep names.")
    ] = None,
    half: Annotated[
        bool | None, typer.Option("--half/--full", help="Compute the rest in FP16 (default for tensorrt) or in FP32.")
    ] = None,
    images: Annotated[int, typer.Option(help="Number of photographs to calibrate on, spread over the folder.")] = 64,
    method: Annotated[str, typer.Option(help="How ranges are chosen: minmax, percentile or entropy.")] = "percentile",
    imgsz: ImgszOption = None,
    min_iou: Annotated[float, typer.Option(help="Least mean mask IoU with the FP32 file.")] = 0.95,
    min_recall: Annotated[
        float, typer.Option(help="Least share of the FP32 file's masks that the file has too.")
    ] = 0.98,
) -> None:
    """FP32 ONNX to INT8 (QDQ), written only if its masks are near to those of the FP32 file on photographs.

    Example: fastsam-export quantize fastsam.onnx --calibration photographs --target cpu
    """
    try:
        from ..quantize.judge import QuantizationLimits
        from ..quantize.to_int8 import quantize_model
    except ModuleNotFoundError as error:
        raise missing_library(error, "export") from error

    target_path = output or model.with_name(f"{model.stem}-int8.onnx")
    with open_console(stderr=True).status("starting") as status:
        result = quantize_model(
            model,
            target_path,
            calibration,
            target=target,
            method=method,
            keep=keep or (),
            keep_from=keep_from,
            run_sweep=sweep,
            half=half,
            count=images,
            imgsz=imgsz,
            limits=QuantizationLimits(min_iou, min_recall),
            step=status.update,
        )
    _report(result, open_console())


def _report(result: Quantized, console: Console) -> None:
    if result.sweep is not None:
        console.print(_sweep_table(result.sweep))
    likeness = result.likeness
    table = Table("compared with the FP32 file", "found", "asked for")
    for finding in result.findings:
        table.add_row(*finding.cells()[:3])
    table.add_row("detections one to one", f"{likeness.matched:.4f}", "")
    table.add_row("detections", f"{likeness.detections_rounded}", f"{likeness.detections} by the FP32 file")
    console.print(table)
    which = "others" if result.unseen else "the same ones, as there were no others"
    say(
        console,
        f"{result.path}: {len(result.quantized)} convolutions in INT8, {len(result.kept)} in floating point, "
        f"calibrated on {result.calibrated_on} photographs, compared on {likeness.images} ({which}), "
        f"{result.path.stat().st_size / 1e6:.1f} MB",
    )


def _sweep_table(sweep: Sweep) -> Table:
    table = Table("block in INT8, all else FP32", "convolutions", "loss", "mean mask IoU", "recall")
    for block in sweep.blocks[:_SHOWN]:
        likeness = block.likeness
        table.add_row(
            block.group, str(block.layers), f"{block.loss:.4f}", f"{likeness.mean_iou:.4f}", f"{likeness.recall:.4f}"
        )
    return table
