"""`fastsam tune`: find the fastest way to run a model on this machine. Heavy libraries are imported by the command."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ParameterError
from .bench_fidelity import NOT_KEPT
from .groups import with_groups
from .options import option, result_option
from .tune_triton import TargetOptions, measure_served, write_repository

if TYPE_CHECKING:
    from rich.console import Console

    from ..tuning.choice import Measured


_way, _limit = (partial(option, panel=name) for name in ("Ways to try", "Limits"))


@dataclass(frozen=True)
class AxesOptions:
    """What is varied.

    Example:
        >>> AxesOptions(threads=[1, 2]).threads
        [1, 2]
    """

    engine: Annotated[
        list[str] | None, _way("Engine to try. May be repeated. Default: all that are installed.", "--engine")
    ] = None
    threads: Annotated[
        list[int] | None,
        _way("CPU threads to try. May be repeated. Default: all processors, and half of them if there are many."),
    ] = None
    imgsz: Annotated[
        list[int] | None, _way("Longest side of the input to try. May be repeated. Default: that of the model.")
    ] = None
    candidate: Annotated[
        list[str] | None,
        _way(
            "A further way to run the model: another file, a plan, a server, as \\[NAME=]PATH\\[@SETTING=VALUE,…] or "
            "with an address in place of the path. It is measured, but not chosen. May be repeated.",
            "--candidate",
            metavar="MODEL",
        ),
    ] = None
    int8: Annotated[
        bool,
        _way("Make an INT8 file, calibrated on the images, and try it. Needs the package onnx.", "--int8/--no-int8"),
    ] = True


@with_groups
def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The FP32 file.", show_default=False)],
    *,
    images: Annotated[
        list[str],
        option(
            "Photographs like those that will be segmented. May be repeated.",
            "--images",
            "-i",
            metavar="IMAGE|FOLDER|GLOB",
        ),
    ],
    axes: AxesOptions,
    target: TargetOptions,
    min_mean_iou: Annotated[float, _limit("Least mean IoU of masks with those of the FP32 file.")] = 0.95,
    min_recall: Annotated[float | None, _limit("Least share of its detections, at mask IoU 0.75.")] = None,
    max_latency_ms: Annotated[float | None, _limit("Longest time for an image, milliseconds.")] = None,
    conf: Annotated[float, option("Keep segments with a score above it.")] = 0.4,
    runs: Annotated[int, option("Timed rounds.")] = 10,
    output: Annotated[
        Path | None, result_option("Folder of the run. Default: MODEL.tune beside the model.", "--output", "-o")
    ] = None,
) -> None:
    """Measure the ways to run a model on this machine, and keep the fastest whose masks are near enough.

    The result is MODEL.tuned.json beside the model: FastSAM("MODEL.onnx", engine="tuned") and --engine tuned follow it.
    The exit code is 1 if nothing meets the limits; an earlier result stays then.

    Example: fastsam tune fastsam.onnx --images photos --min-mean-iou 0.97
    """
    from ..batch.console import open_console, say
    from ..measure.gate import FidelityLimits
    from ..measure.run import parse_model
    from ..opening import ModelSettings
    from ..sources.paths import find_images
    from ..tuned import Machine
    from ..tuning.candidates import Axes, candidates_for, default_threads, installed_engines
    from ..tuning.choice import best_of
    from ..tuning.loads import ServedLoad, best_load
    from ..tuning.report import TuningReport
    from ..tuning.run import Plan, compare_masks, measure

    if model.suffix != ".onnx" or not model.is_file():
        raise ParameterError(f"{model}: expected an ONNX file that is there; plans and servers go to --candidate")
    paths, folder = find_images(images), model.with_suffix(".tune") if output is None else output
    repository, console = target.folder(folder), open_console(stderr=True)
    engines = tuple(axes.engine or installed_engines())
    made = _int8_files(model, images, engines, folder, console) if axes.int8 else {}
    varied = Axes(engines, tuple(axes.threads or default_threads()), tuple(axes.imgsz or ()))
    ways = candidates_for(model, made, varied)
    extra = [parse_model(text) for text in axes.candidate or []]
    limits = FidelityLimits(mean_iou=min_mean_iou, recall=min_recall)
    settings = ModelSettings.from_keywords(conf=conf)
    plan = Plan([*ways, *extra], paths, settings, limits, max_latency_ms=max_latency_ms, runs=runs)
    say(console, f"{len(plan.ways)} ways on {len(paths)} images: comparing masks, then timing")
    compared = compare_masks(plan, console)
    if compared is not None:
        compared.write(folder / "fidelity")
    measured = measure(plan, compared, console, lambda text: say(console, text))
    command = shlex.join(["fastsam", *sys.argv[1:]])
    best = best_of([each for each in measured if each.way not in extra])
    to_serve, served = best, list[ServedLoad]()
    if best is not None and repository is not None:
        to_serve, served = measure_served(measured, plan, target.batch, console)
    load = best_load(served, max_latency_ms)
    report = TuningReport(measured, best, command, len(paths), Machine.this(), served, load)
    if (reason := report.write(folder)) is not None:
        say(console, reason)
    open_console().print(report.table())
    if best is None:
        say(console, f"nothing meets the limits; see {folder / 'tune.md'}")
        raise typer.Exit(NOT_KEPT)
    say(open_console(), f"{_keep(model, best)}: {best.way.name}, {best.latency_ms:.1f} ms; the run is in {folder}")
    if repository is not None:
        write_repository(report, to_serve or best, repository)


def _int8_files(
    model: Path, images: list[str], engines: tuple[str, ...], folder: Path, console: Console
) -> dict[str, Path]:
    """Engine → INT8 file of an earlier run into the folder, or a new one; a line says why one is missing."""
    from ..batch.console import say

    photographs = next((image for image in images if Path(image).is_dir()), None)
    if find_spec("onnx") is None or photographs is None:
        missing = "the package onnx is not installed" if photographs else "calibration takes a folder in --images"
        say(console, f"no INT8 file: {missing}")
        return {}
    files = {engine: _int8_file(model, photographs, engine, folder, console) for engine in engines}
    return {engine: file for engine, file in files.items() if file is not None}


def _int8_file(model: Path, photographs: str, engine: str, folder: Path, console: Console) -> Path | None:
    from ..batch.console import say
    from ..tuning.candidates import int8_target
    from .exporter import run_exporter

    target = int8_target(engine)
    file = folder / f"{model.stem}-int8-{target}.onnx"
    if file.is_file() and file.stat().st_mtime > model.stat().st_mtime:
        return file
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["quantize", str(model), "--calibration", photographs, "--target", target, "--output", str(file)]
    if run_exporter([*arguments, "--quiet"]):
        say(console, f"no INT8 file for {engine}: it would be too far from the FP32 file, see above")
        return None
    return file


def _keep(model: Path, best: Measured) -> Path:
    """Write the result beside the model."""
    from ..measure.report import environment
    from ..system.packages import version_of
    from ..tuned import Machine, Tuned, sha256_of

    file = os.path.relpath(best.way.source, model.parent)
    hashes = {name: sha256_of(model.parent / name) or "" for name in {model.name, file}}
    engine = str(best.way.settings["engine"])
    versions = {**environment(), engine: version_of(engine) or ""}
    tuned = Tuned(
        file, hashes, dict(best.way.settings), Machine.this(), versions, best.latency_ms or 0.0, best.mean_iou
    )
    return tuned.write(model)
