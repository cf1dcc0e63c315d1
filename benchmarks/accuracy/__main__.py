"""Edges of several models on BSDS500, as a part of the report.

    python -m benchmarks.accuracy --bsds BSDS500/data --model FP32=models/fastsam-demo.onnx --model INT8=int8.onnx

Writes results/suite_accuracy.json; `python -m benchmarks.suite.report` shows it beside the paper's rows. The same
command goes on after an interruption, from the journals in --work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.documents import parse
from fastsam_deploy.runtime.system.atomic import write_atomically

from ..photographs import RESULTS, as_json
from ..suite.machine import environment


def main() -> None:
    arguments = _arguments()
    rows = []
    for text in arguments.model:
        name, _, path = text.partition("=")
        row = _edges(name, Path(path), arguments)
        rows.append(row)
    report = {
        "part": "accuracy",
        "environment": environment([1], quick=True),
        "settings": {"data": f"BSDS500 {arguments.split}", "imgsz": arguments.imgsz, "threads": [1], "quick": False},
        "rows": rows,
        "ratios": [],
        "skipped": [],
    }
    write_atomically(arguments.output / "suite_accuracy.json", as_json(report))


def _edges(name: str, model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    work = arguments.work / name
    subprocess.run(
        [
            *(sys.executable, "-m", "fastsam_deploy.runtime.cli", "bench", "edges"),
            *("--truth", arguments.bsds / "groundTruth" / arguments.split),
            *("--images", arguments.bsds / "images" / arguments.split),
            *("--model", model, "--imgsz", str(arguments.imgsz), "--name", name, "--output", work),
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
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FILE", help="may be repeated")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--engine", help="of all models")
    parser.add_argument("--work", type=Path, default=Path("accuracy"), help="folder of edge maps and journals")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
