"""`fastsam tune --target triton`: instances, threads and batches for a server, and the repository that has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ..errors import FastSamError, ParameterError
from .options import option, result_option

if TYPE_CHECKING:
    from rich.console import Console

    from ..tuning.choice import Measured
    from ..tuning.loads import ServedLoad
    from ..tuning.report import TuningReport
    from ..tuning.run import Plan


class TuningTarget(Enum):
    """What the model is tuned for.

    Example:
        >>> TuningTarget("triton")
        <TuningTarget.TRITON: 'triton'>
    """

    PYTHON = "python"
    TRITON = "triton"


@dataclass(frozen=True)
class TargetOptions:
    """What runs the model afterwards.

    Example:
        >>> TargetOptions().target.value
        'python'
    """

    target: Annotated[
        TuningTarget,
        option(
            "python: one image after the other. triton: also many requests at once, and a repository for Triton with "
            "the instances, threads and batches that served most images a second."
        ),
    ] = TuningTarget.PYTHON
    repository: Annotated[
        Path | None, result_option("Folder of the repository. Default: model_repository in the folder of the run.")
    ] = None
    batch: Annotated[
        list[int] | None, option("Images in a batch to try, for triton. May be repeated. Default: 1, 2 and 4.")
    ] = None

    def folder(self, run: Path) -> Path | None:
        """The folder of the repository; None: there will be none.

        Raises:
            ParameterError: it is there already, or options do not fit.
        """
        if self.target is TuningTarget.PYTHON:
            if self.repository is not None or self.batch:
                raise ParameterError("--repository and --batch are for a server; add --target triton")
            return None
        folder = self.repository or run / "model_repository"
        if folder.exists():
            raise ParameterError(f"{folder}: exists already; give another folder with --repository, or remove it")
        if any(count < 1 for count in self.batch or []):
            raise ParameterError(f"--batch is {min(self.batch or [])}, expected 1 or more")
        return folder


def measure_served(
    measured: Sequence[Measured], plan: Plan, batches: Sequence[int] | None, console: Console
) -> tuple[Measured, list[ServedLoad]]:
    """The best way that Triton can run, ONNX Runtime's, and how it serves many requests.

    Raises:
        FastSamError: none of ONNX Runtime meets the limits.

    Example:
        >>> best, loads = measure_served(measured, plan, [1, 2], console)  # doctest: +SKIP
    """
    from ..batch.console import say
    from ..system.cpu import usable_cpus
    from ..tuning.choice import best_of
    from ..tuning.loads import loads_for, measure_loads

    best = best_of([each for each in measured if each.way.settings.get("engine") == "onnxruntime"])
    if best is None:
        raise FastSamError("no way with ONNX Runtime meets the limits, and Triton has no other engine for ONNX files")
    loads = loads_for(usable_cpus(), batches or (1, 2, 4))
    runs = max(1, min(plan.runs, 5))
    return best, measure_loads(best.way, plan.paths, plan.settings, loads, runs, lambda text: say(console, text))


def write_repository(report: TuningReport, best: Measured, folder: Path) -> None:
    """Show the table of loads, and have `fastsam-export triton` write the repository.

    Raises:
        FastSamError: no load is fast enough, or it could not be written; the exporter has said why.

    Example:
        >>> write_repository(report, best, Path("model_repository"))  # doctest: +SKIP
    """
    from ..batch.console import open_console
    from .exporter import run_exporter

    open_console().print(report.loads_table())
    if report.load is None:
        raise FastSamError("no repository was written: all calls take longer than --max-latency-ms; see the table")
    load = report.load.load
    options = {"--instances": load.instances, "--threads": load.threads, "--max-batch": load.batch}
    if best.way.settings.get("imgsz") is not None:
        options["--imgsz"] = best.way.settings["imgsz"]
    arguments = ["triton", best.way.source, "--output", str(folder), "--device", "cpu"]
    if run_exporter([*arguments, *(str(part) for pair in options.items() for part in pair)]):
        raise FastSamError(f"{folder}: the repository was not written, see above")
