"""Edges of several models on BSDS500, as a part of the report.

    python -m benchmarks.accuracy --bsds BSDS500/data --model FP32=models/fastsam-demo.onnx --model INT8=int8.onnx

The first model is the one that the others are compared with. Beside the edges: the mean best IoU of what people drew
(every segment from 0.5 % of the image), at the thresholds of the model card; and the processor time that judging the
edge map of every fourth image takes.

Writes results/suite_accuracy.json, which `python -m benchmarks.suite.report` shows beside the paper's rows; with --part
precisions suite_precisions.json, for a table of its own. The same command goes on after an interruption, from the
journals in --work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime import Segments
from fastsam_deploy.runtime.documents import parse
from fastsam_deploy.runtime.system.atomic import write_atomically

from ..photographs import RESULTS, as_json
from ..suite.machine import environment
from .quality import fidelity_figures, judging_seconds, mean_best_iou, segments_of

THRESHOLDS = 99
TIMED = 4
"""Judging is timed for each of this many images."""


def main() -> None:
    arguments = _arguments()
    truths = _truths(arguments)
    images = [arguments.bsds / "images" / arguments.split / f"{truth.stem}.jpg" for truth in truths]
    rows: list[dict[str, Any]] = []
    reference: list[Segments] = []
    for text in arguments.model:
        name, _, path = text.partition("=")
        row = _edges(name, Path(path), arguments)
        answers = segments_of(Path(path), images, arguments.imgsz, arguments.engine)
        reference = reference or answers
        row["mean_best_iou"] = mean_best_iou(answers, truths)
        row["fidelity"] = fidelity_figures(reference, answers) if rows else None
        rows.append(row)
        print(row, flush=True)
    first = arguments.work / arguments.model[0].partition("=")[0] / "edges"
    timed = [(truth, first / f"{truth.stem}.png") for truth in truths[::TIMED]]
    seconds = judging_seconds(*zip(*timed, strict=True), THRESHOLDS)
    report = {
        "part": arguments.part,
        "environment": environment([1], quick=True),
        "settings": {
            "data": f"BSDS500 {arguments.split}",
            "every": arguments.every,
            "thresholds": arguments.thresholds,
            "imgsz": arguments.imgsz,
            "threads": [1],
            "quick": False,
        },
        "rows": rows,
        "judging": {"images": len(seconds), "thresholds": THRESHOLDS, "mean_cpu_seconds": sum(seconds) / len(seconds)},
        "ratios": [],
        "skipped": [],
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_atomically(arguments.output / f"suite_{arguments.part}.json", as_json(report))


def _truths(arguments: argparse.Namespace) -> list[Path]:
    """The `.mat` files that are used, as links in the work folder: all, or each Nth by name."""
    folder = arguments.work / "truth"
    folder.mkdir(parents=True, exist_ok=True)
    truths = sorted((arguments.bsds / "groundTruth" / arguments.split).glob("*.mat"))[:: arguments.every]
    for truth in truths:
        link = folder / truth.name
        link.unlink(missing_ok=True)
        link.symlink_to(truth.resolve())
    return truths


def _edges(name: str, model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    work = arguments.work / name
    subprocess.run(
        [
            *(sys.executable, "-m", "fastsam_deploy.runtime.cli", "bench", "edges"),
            *("--truth", arguments.work / "truth"),
            *("--images", arguments.bsds / "images" / arguments.split),
            *("--model", model, "--imgsz", str(arguments.imgsz), "--name", name, "--output", work),
            *("--thresholds", str(arguments.thresholds)),
            *(("--engine", arguments.engine) if arguments.engine else ()),
        ],
        check=True,
    )
    document = parse((work / "edges.json").read_bytes())
    return {"name": name, "file": model.name, "images": document["images"], "boundaries": document["boundaries"]}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bsds", type=Path, required=True, help="folder with images and groundTruth")
    parser.add_argument("--split", default="val", help="train, val or test")
    parser.add_argument("--part", choices=["accuracy", "precisions"], default="accuracy", help="table of the report")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use each Nth image")
    parser.add_argument("--thresholds", type=int, default=THRESHOLDS, help="of the table; judging is timed at 99")
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FILE", help="may be repeated")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--engine", help="of all models")
    parser.add_argument("--work", type=Path, default=Path("accuracy"), help="folder of edge maps and journals")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
