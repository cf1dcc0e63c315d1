"""The benchmark suite: ours against ultralytics, everything that the report claims.

    python -m benchmarks.suite                            # all parts, 20 minutes on two slow cores, and the report
    python -m benchmarks.suite --parts network,memory     # some parts; the others' results stay as they are
    python -m benchmarks.suite --quick                    # does it still run? Its figures mean nothing.

Each part writes results/KIND/suite_PART.json (see records.py) when it is done, so that a run that was stopped goes on
with the parts that are missing; KIND is the kind of processor (machine.py). All contenders run on the same checkpoint
and images, in processes under this one, asked in turn (contenders.py); what they answer is compared before anything is
timed. Variables that choose other kernels than users get are taken out of the environment first (libraries.py).
Afterwards REPORT.md and its plots are made from all results (report).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.system.atomic import write_atomically

from ..photographs import RESULTS, ROOT, as_json
from .libraries import steering
from .machine import environment, kind_here
from .models import SIZES, ModelFiles
from .parts import compiled, end_to_end, gpu_host, memory, network, prompts, scaling, startup, stream
from .records import Record, Settings, contenders, variants

PARTS: dict[str, Callable[[Settings], Record]] = {
    "network": network.measure,
    "end_to_end": end_to_end.measure,
    "prompts": prompts.measure,
    "memory": memory.measure,
    "startup": startup.measure,
    "scaling": scaling.measure,
    "stream": stream.measure,
    "gpu_host": gpu_host.measure,
    "compiled": compiled.measure,
}


MODELS = "models"
"""Makes the model files that the others need, so that no part takes longer for it; has no results."""


def main() -> None:
    arguments = _arguments()
    if steering():  # some are read while this process starts, so it starts anew
        command = [sys.executable, "-m", "benchmarks.suite", *sys.argv[1:], "--unset", json.dumps(steering())]
        os.execve(sys.executable, command, {name: os.environ[name] for name in os.environ.keys() - steering().keys()})
    settings = Settings(
        photographs=arguments.images,
        models=ModelFiles(arguments.models),
        threads=tuple(arguments.threads),
        imgsz=320 if arguments.quick else 1024,
        seconds=arguments.seconds,
        quick=arguments.quick,
    )
    results = arguments.output / kind_here() if arguments.output == RESULTS else arguments.output
    run(arguments.parts, settings, results, arguments.unset)
    if arguments.report:
        from .report import write

        write(arguments.output, arguments.output.parent if arguments.output == RESULTS else arguments.output)


def run(parts: list[str], settings: Settings, output: Path, unset: dict[str, str]) -> None:
    """Measure the parts one after the other, each written when it is done."""
    output.mkdir(parents=True, exist_ok=True)
    if MODELS in parts and not settings.quick:
        for size in SIZES:
            contenders(settings, size, 1)
        variants(settings, 1)
    parts = [name for name in parts if name != MODELS]
    machine = environment(settings.threads, quick=settings.quick, unset=unset) if parts else {}
    for name in parts:
        start = time.perf_counter()
        print(f"part {name}", file=sys.stderr, flush=True)
        record = PARTS[name](settings)
        report = as_report(name, machine, settings, record)
        write_atomically(output / f"suite_{name}.json", as_json(report))
        print(f"part {name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)


def as_report(name: str, machine: dict[str, Any], settings: Settings, record: Record) -> dict[str, Any]:
    """What a part's file holds; see records.py."""
    return {
        "part": name,
        "environment": machine,
        "settings": {
            "imgsz": settings.imgsz,
            "conf": 0.4,
            "iou": 0.9,
            "threads": list(settings.threads),
            "seconds": settings.seconds,
            "quick": settings.quick,
            **record.settings,
        },
        "rows": record.rows,
        "ratios": record.ratios,
        "skipped": record.skipped,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ours against ultralytics on the CPU: the whole suite.")
    parser.add_argument(
        "--parts", type=_parts, default=[MODELS, *PARTS], help=f"of {','.join([MODELS, *PARTS])}; default: all"
    )
    parser.add_argument("--images", type=Path, default=ROOT / "examples/images", help="folder of photographs")
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fastsam-deploy/suite",
        help="folder where model files are made, and kept for the next time",
    )
    processors = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2] if processors > 1 else [1])
    parser.add_argument("--seconds", type=float, default=20.0, help="of a case, after which no round begins")
    parser.add_argument("--quick", action="store_true", help="everything once and small")
    parser.add_argument("--output", type=Path, default=None, help="folder of the results; default: results/KIND")
    parser.add_argument("--unset", type=json.loads, default={}, help=argparse.SUPPRESS)
    parser.add_argument("--no-report", dest="report", action="store_false", help="results only")
    arguments = parser.parse_args()
    if arguments.output is None:
        # Figures that mean nothing shall not take the place of measured ones.
        arguments.output = Path(tempfile.mkdtemp(prefix="suite-quick-")) if arguments.quick else RESULTS
    return arguments


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in {MODELS, *PARTS}]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no part {', '.join(unknown)}; expected some of {', '.join([MODELS, *PARTS])}"
        )
    return names


if __name__ == "__main__":
    main()
