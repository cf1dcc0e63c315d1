"""`fastsam-export engine`: ONNX to a plan of TensorRT, or of TensorRT for RTX."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from ...runtime.batch.console import open_console, say
from ...runtime.cli.groups import with_groups
from ...runtime.cuda.driver.device import device_number
from ...runtime.engines.tensorrt.library import TENSORRT, TENSORRT_RTX, Library, library_of
from ...runtime.engines.tensorrt.record import NOT_COMPARED
from ...runtime.errors import ParameterError
from .options import PhotographsOption
from .tables import findings_table, print_check, print_layers

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


@dataclass(frozen=True)
class RtxOptions:
    """Which of NVIDIA's two libraries builds, and for which GPUs.

    Example:
        >>> RtxOptions().rtx
        False
    """

    rtx: Annotated[
        bool, typer.Option("--rtx", help="Build for TensorRT for RTX, which needs no GPU; one file for several GPUs.")
    ] = False
    gpu: Annotated[
        str | None, typer.Option(help="With --rtx: GPUs of the plan, such as sm86,sm89,sm120, or current.")
    ] = None


@dataclass(frozen=True)
class InsteadOptions:
    """What is done in place of a build.

    Example:
        >>> InsteadOptions(check=True).layers
        False
    """

    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Write nothing: does TensorRT for RTX take this ONNX file, of any network? Needs no GPU."
        ),
    ] = False
    layers: Annotated[
        bool, typer.Option("--layers", help="Write nothing: show the layers of a plan, with types and shapes.")
    ] = False
    compare: Annotated[
        Path | None,
        typer.Option(help="A plan that was built elsewhere: compare it on this GPU, and note the result in its JSON."),
    ] = None


@with_groups
def engine(
    model: Annotated[Path, typer.Argument(help="ONNX file of a segmentation network; with --layers, a plan.")],
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: name of the model + .plan, or + .rtx.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="fp32, fp16 or int8; default: that of the file, with --rtx fp16. An FP32 file is converted first."
        ),
    ] = None,
    shapes: Annotated[
        list[str] | None,
        typer.Option(
            help="min,opt,max of a profile, such as 1x640x640,4x1024x1024,8x1024x1024 (batch, height, width) or 1,4,8. "
            "May be repeated. Default: the fixed size, or all rectangles up to imgsz, optimized for 1:1, 4:3 and 16:9 "
            "(with --rtx a single profile).",
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
    target: RtxOptions,
    instead: InsteadOptions,
    trtexec: Annotated[
        bool, typer.Option("--trtexec", help="Print the trtexec commands that build the same plan.")
    ] = False,
    run: Annotated[
        bool, typer.Option("--run", help="With --trtexec: run it. The plan is not compared with ONNX Runtime then.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log of TensorRT.")] = False,
) -> None:
    """ONNX to a TensorRT plan for this GPU, compared with ONNX Runtime on photographs.

    With --rtx: to a plan for a list of GPUs, built without any of them.

    Example: fastsam-export engine fastsam-s.onnx --precision fp16
    """
    from ..tensorrt.request import request_for
    from ..tensorrt.settings import BuildSettings

    number = int(device) if device.isdecimal() else device_number(device)
    if verbose:
        _show_logs()
    if _shown(model, target, instead, precision, imgsz, number, images):
        return
    if trtexec and target.rtx:
        raise ParameterError("--trtexec builds plans of TensorRT itself; leave it out, or leave --rtx out")
    if run and not trtexec:
        raise ParameterError("--run belongs to --trtexec; leave it out to build with TensorRT's Python package")
    library, gpus, builder = _target(target, number)
    request = request_for(
        model,
        output or Path(model.stem + library.suffixes[0]),
        precision=precision,
        shapes=shapes or (),
        max_batch=max_batch,
        imgsz=imgsz,
        settings=BuildSettings(**vars(build), gpus=gpus),
        calibration=calibration,
        device=builder,
        library=library,
    )
    _build(request, images, trtexec=trtexec, run=run, verbose=verbose)


def _target(target: RtxOptions, device: int) -> tuple[Library, tuple[str, ...], int | None]:
    """Library, GPUs that it builds for, and the GPU that is used for it."""
    if not target.rtx:
        if target.gpu is not None:
            raise ParameterError(
                f"--gpu {target.gpu}: TensorRT builds for the GPU of this machine; add --rtx, or --device N"
            )
        return TENSORRT, (), device
    from ..tensorrt.targets import CURRENT, gpus_from_text

    return TENSORRT_RTX, gpus_from_text(target.gpu, device), device if target.gpu == CURRENT else None


def _build(request: Request, images: Path | None, *, trtexec: bool, run: bool, verbose: bool) -> None:
    if trtexec and not run:
        _print_commands(request, open_console(), verbose=verbose)
    elif trtexec:
        from ..tensorrt.with_trtexec import build_with_trtexec

        _report(build_with_trtexec(request, verbose=verbose), open_console())
    else:
        from ..tensorrt.to_engine import build_engine

        with open_console(stderr=True).status("starting") as status:
            plan = build_engine(request, images, status.update)
        _report(plan, open_console())


def _shown(
    model: Path,
    target: RtxOptions,
    instead: InsteadOptions,
    precision: str | None,
    imgsz: int | None,
    device: int,
    images: Path | None,
) -> bool:
    """Do what was asked in place of a build, if anything."""
    chosen = [f"--{name}" for name, value in vars(instead).items() if value]
    if len(chosen) > 1:
        raise ParameterError(f"{' and '.join(chosen)}: expected one of them")
    if instead.check:
        from ..tensorrt.check import check_model

        with open_console(stderr=True).status("starting") as status:
            results = check_model(model, target.gpu, precision=precision, imgsz=imgsz, step=status.update)
        print_check(results, open_console())
        if not all(verdict.is_taken for verdict in results.verdicts):
            raise typer.Exit(1)
    if instead.layers:
        from ..tensorrt.listing import layer_lines

        print_layers(layer_lines(model, device), open_console())
    if instead.compare is not None:
        from ..tensorrt.to_engine import compare_plan

        with open_console(stderr=True).status("starting") as status:
            plan = compare_plan(instead.compare, model, device, images, status.update)
        _report(plan, open_console())
    return bool(chosen)


def _print_commands(request: Request, console: Console, *, verbose: bool) -> None:
    from ..tensorrt.with_trtexec import onnx_in_precision, trtexec_commands

    onnx_file = onnx_in_precision(request)
    for major, command in trtexec_commands(request, onnx_file, verbose=verbose).items():
        say(console, f"# TensorRT {major}")
        say(console, shlex.join(command))


def _report(plan: Plan, console: Console) -> None:
    if plan.findings:
        console.print(findings_table("compared with ONNX Runtime", plan.findings))
    record = plan.record
    shapes = "; ".join(map(str, record.profiles))
    layers = f"; {plan.layers}" if plan.layers else ""
    compared = "" if plan.findings else "; not compared with ONNX Runtime"
    gpus = ", ".join(record.gpus) or record.gpu or "this kind of GPU"
    megabytes = plan.path.stat().st_size / 1e6
    say(
        console,
        f"{plan.path}: {record.spec.precision}, {shapes}, {library_of(plan.path).name} {record.tensorrt or '?'}, "
        f"{gpus}, {megabytes:.1f} MB{layers}{compared}",
    )
    if record.compared == (NOT_COMPARED,):
        say(
            console,
            f"{NOT_COMPARED}; there: fastsam-export engine MODEL.onnx --compare {plan.path.name}, with the ONNX file",
        )


def _show_logs() -> None:
    logger = logging.getLogger("fastsam_deploy")
    logger.addHandler(RichHandler(console=open_console(stderr=True), show_path=False))
    logger.setLevel(logging.DEBUG)
