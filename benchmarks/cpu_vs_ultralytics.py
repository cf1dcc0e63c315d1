"""Ours against ultralytics on the CPU: same checkpoint, same images, same masks, runs taken in turn.

    python -m benchmarks.cpu_vs_ultralytics            # measures, writes results/cpu_vs_ultralytics.{json,md}
    python -m benchmarks.cpu_vs_ultralytics --runs 1   # does it still work?

The short form of the suite (suite.py), for a checkpoint and photographs of one's own. Contenders, each in a process of
its own (contenders.py):

    ours      the ONNX file of the checkpoint in ONNX Runtime, FastSAM.segment
    retina    ultralytics FastSAM(checkpoint)(image, retina_masks=True): the same output, checked before timing
    default   the same without retina_masks: masks at network size, not at the image's

Images come as RGB arrays in memory: reading files is not part of it.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from fastsam_deploy.runtime.system.packages import version_of

from .photographs import ROOT, add_options, photographs, processor, write_report
from .suite.contenders import STAGES, Runner, in_turn, require_same, running
from .suite.workers import Contender

TITLES = {"ours": "**ours**", "retina": "ultralytics, retina_masks", "default": "ultralytics, default¹"}


def main() -> None:
    arguments = _arguments()
    images = photographs(arguments.images, arguments.megapixels)
    with tempfile.TemporaryDirectory() as folder:
        onnx = _export(arguments.checkpoint, Path(folder) / "model.onnx", arguments.imgsz)
        with running(_contenders(arguments, onnx)) as runners:
            rows = [_measure(runners, name, image, arguments.runs) for name, image in images.items()]
            loaded = {name: runner.description["memory"]["peak"] for name, runner in runners.items()}
            peak = {name: runner.ask("memory_now")["peak"] for name, runner in runners.items()}
    report = {
        "environment": _environment(arguments),
        "images": rows,
        "memory_mb": {name: {"loaded": loaded[name], "peak": peak[name]} for name in runners},
    }
    table = markdown(report)
    write_report(arguments.output, "cpu_vs_ultralytics", report, table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ours against ultralytics on the CPU.")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models/fastsam-demo.pt")
    add_options(parser)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--contenders", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--imgsz", type=int, default=1024)
    parser.add_argument("--conf", type=float, default=0.4)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    if not {"ours", "retina"} <= set(arguments.contenders):
        parser.error("--contenders without ours and retina, whose masks are compared; expected both among them")
    return arguments


def _export(checkpoint: Path, onnx: Path, imgsz: int) -> Path:
    if checkpoint == ROOT / "models/fastsam-demo.pt":
        return checkpoint.with_suffix(".onnx")  # the same network, proven when it was made
    from fastsam_deploy.export.to_onnx import export_onnx

    export_onnx(checkpoint, onnx, imgsz=imgsz)
    return onnx


def _contenders(arguments: argparse.Namespace, onnx: Path) -> list[Contender]:
    settings = {"threads": arguments.threads, "imgsz": arguments.imgsz, "conf": arguments.conf}
    checkpoint = str(arguments.checkpoint)
    known = {
        "ours": Contender("ours", TITLES["ours"], str(onnx), True, "onnxruntime", **settings),
        "retina": Contender("retina", TITLES["retina"], checkpoint, **settings),
        "default": Contender("default", TITLES["default"], checkpoint, retina=False, **settings),
    }
    return [one for name, one in known.items() if name in arguments.contenders]


def _measure(runners: dict[str, Runner], label: str, image: np.ndarray, runs: int) -> dict[str, Any]:
    """Correct first; then `runs` rounds, each asking every contender once, in an order that changes."""
    for runner in runners.values():
        runner.ask("show", images=[image])
    answers = {name: runner.ask("segment", masks=name != "default")["masks"] for name, runner in runners.items()}
    worst = require_same(answers["ours"], answers["retina"], label)
    times = in_turn(list(runners.values()), runs, float("inf"))
    row: dict[str, Any] = {
        "image": label,
        "megapixels": round(image.shape[0] * image.shape[1] / 1e6, 2),
        "masks": len(answers["ours"]),
        "worst_iou": worst,
        "runs": runs,
    }
    for name, measured in times.items():
        values = {stage: [one[stage] for one in measured] for stage in STAGES}
        row[name] = {
            stage: {"median": round(median(ms), 2), "min": round(min(ms), 2), "max": round(max(ms), 2)}
            for stage, ms in values.items()
        }
    around = {name: [one["before"] + one["after"] for one in measured] for name, measured in times.items()}
    # Ratios round by round, so that a slow moment of the machine is in both numbers.
    for other in times.keys() - {"ours"}:
        row[f"around_ratio_{other}"] = round(median(map(_ratio, around[other], around["ours"])), 1)
        totals = [[one["total"] for one in times[name]] for name in (other, "ours")]
        row[f"total_ratio_{other}"] = round(median(map(_ratio, *totals)), 2)
    return row


def _ratio(theirs: float, ours: float) -> float:
    return theirs / ours


def _environment(arguments: argparse.Namespace) -> dict[str, Any]:
    packages = ("fastsam-deploy", "onnxruntime", "numpy", "torch", "ultralytics")
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": processor(),
        "threads": arguments.threads,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{package: version_of(package) for package in packages},
        "checkpoint": arguments.checkpoint.name,
        "imgsz": arguments.imgsz,
        "conf": arguments.conf,
        "iou": 0.9,
    }


def markdown(report: dict[str, Any]) -> str:
    """The table that the README shows: medians in milliseconds."""
    environment = report["environment"]
    lines = [
        "| image | masks | | before | network | after | **end to end** | around the network | end to end |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    contenders = list(report["memory_mb"])
    for row in report["images"]:
        for name in contenders:
            cells = [f"{row[name][stage]['median']:.1f}" for stage in STAGES]
            ratios = ["1", "1"]
            if name != "ours":
                ratios = [f"{row[f'around_ratio_{name}']:.0f}×", f"{row[f'total_ratio_{name}']:.1f}×"]
            first = [row["image"], str(row["masks"])] if name == "ours" else ["", ""]
            lines.append(f"| {' | '.join([*first, TITLES[name], *cells, *ratios])} |")
    memory = "; ".join(f"{TITLES[name].strip('*')} {report['memory_mb'][name]['peak']:.0f} MB" for name in contenders)
    lines += [
        "",
        f"Milliseconds, medians of {report['images'][0]['runs']} runs taken in turn; {environment['cpu']}, "
        f"{environment['threads']} threads; imgsz {environment['imgsz']}, conf {environment['conf']}, "
        f"iou {environment['iou']}; ONNX Runtime {environment['onnxruntime']}, torch {environment['torch']}, "
        f"ultralytics {environment['ultralytics']}. Peak memory of the process: {memory}.",
        "¹ Its masks have the size of the network's input, not of the image.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
