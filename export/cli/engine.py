"""`fastsam-export engine`: ONNX to a TensorRT plan."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from ...runtime.batch.console import say
from ...runtime.cli.groups import with_groups
from ...runtime.cuda.driver.device import device_number
from ...runtime.errors import ParameterError
from .options import PhotographsOption
from .tables import findings_table

if TYPE_CHECKING:
    from ..tensorrt.request import Request
    from ..tensorrt.to_engine import Plan


@dataclass(frozen=True)
class BuildOptions:
    """How TensorRT builds. The names are those of `BuildSettings`.

    Example:
        >>> BuildOptions(tf32=True).tf32
        True
    """

    workspace_gib: Annotated[
        float | None, typer.Option("--workspace", help="Scratch memory that a layer may use, GiB; default: all.")
    ] = None
    timing_cache: Annotated[
        Path | None, typer.Option(help="File with timings of layers; makes the next build faster.")
    ] = None
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Later versions of TensorRT can run the plan too.")
    ] = False
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="All GPUs from Ampere on can run the plan; it is slower.")
    ] = False
    optimization_level: Annotated[
        int | None, typer.Option(help="0 (builds fastest) to 5 (runs fastest); default: TensorRT's.")
    ] = None
    tf32: Annotated[bool, typer.Option("--tf32", help="Allow TF32 in FP32 layers: faster, less accurate.")] = False


@with_groups
def engine(
    model: Annotated[Path, typer.Argument(help="ONNX file of a segmentation network.")],
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: name of the model + .plan.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or int8; default: that of the file. An FP32 file is converted first.")
    ] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            help="min,opt,max of a profile, such as 1x640x640,4x1024x1024,8x1024x1024 (batch, height, width) or 1,4,8. "
            "May be repeated. Default: the fixed size, or all rectangles up to imgsz, optimized for 1:1, 4:3 and 16:9.",
        ),
    ] = None,
    max_batch: Annotated[int | None, typer.Option(help="Largest batch without --shapes; default 8.")] = None,
    imgsz: Annotated[
        int | None, typer.Option(help="Longest side of a dynamic model, pixels; default: the model's.")
    ] = None,
    build: BuildOptions,
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of photographs; needed for int8 from an FP32 file.")
    ] = None,
    device: Annotated[str, typer.Option(help="GPU that the plan is built on and for: N or cuda:N.")] = "0",
    images: PhotographsOption = None,
    trtexec: Annotated[
        bool, typer.Option("--trtexec", help="Print the trtexec commands that build the same plan.")
    ] = False,
    run: Annotated[
        bool, typer.Option("--run", help="With --trtexec: run it. The plan is not compared with ONNX Runtime then.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log of TensorRT.")] = False,
) -> None:
    """ONNX to a TensorRT plan for this GPU, compared with ONNX Runtime on photographs.

    Example: fastsam-export engine fastsam-s.onnx --precision fp16
    """
    from ..tensorrt.request import request_for
    from ..tensorrt.settings import BuildSettings
    from ..tensorrt.to_engine import build_engine, build_with_trtexec

    if run and not trtexec:
        raise ParameterError("--run belongs to --trtexec; leave it out to build with TensorRT's Python package")
    request = request_for(
        model,
        output or Path(model.stem + ".plan"),
        precision=precision,
        shapes=shapes or (),
        max_batch=max_batch,
        imgsz=imgsz,
        settings=BuildSettings(**vars(build)),
        calibration=calibration,
        device=int(device) if device.isdecimal() else device_number(device),
    )
    if trtexec and not run:
        _print_commands(request, Console(), verbose=verbose)
    elif trtexec:
        _report(build_with_trtexec(request, verbose=verbose), Console())
    else:
        if verbose:
            _show_logs()
        with Console(stderr=True).status("starting") as status:
            plan = build_engine(request, images, status.update)
        _report(plan, Console())


def _print_commands(request: Request, console: Console, *, verbose: bool) -> None:
    from ..tensorrt.to_engine import onnx_in_precision, trtexec_commands

    onnx_file = onnx_in_precision(request)
    for major, command in trtexec_commands(request, onnx_file, verbose=verbose).items():
        say(console, f"# TensorRT {major}")
        say(console, shlex.join(command))


def _report(plan: Plan, console: Console) -> None:
    if plan.findings:
        console.print(findings_table("compared with ONNX Runtime", plan.findings))
    record = plan.record
    shapes = "; ".join(map(str, record.profiles))
    layers = f"; {plan.layers}" if plan.layers else "; not compared with ONNX Runtime"
    megabytes = plan.path.stat().st_size / 1e6
    say(
        console,
        f"{plan.path}: {record.spec.precision}, {shapes}, TensorRT {record.tensorrt or '?'}, "
        f"{record.gpu or 'this kind of GPU'}, {megabytes:.1f} MB{layers}",
    )


def _show_logs() -> None:
    logger = logging.getLogger("fastsam_deploy")
    logger.addHandler(RichHandler(console=Console(stderr=True), show_path=False))
    logger.setLevel(logging.DEBUG)
