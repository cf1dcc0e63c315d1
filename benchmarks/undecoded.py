"""What a network gains when it leaves the decoding of boxes to the runtime: python -m benchmarks.undecoded

The demo checkpoint is exported without PyTorch in both ways, in FP32 and in INT8 for processors, and the files run in
turn in one process. A row has the medians on the clock, and the median of the ratios within a round. The runtime's own
decoding is not in it: it takes about as long for both.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fastsam_deploy.export.direct.to_onnx import export_direct
from fastsam_deploy.export.quantize.to_int8 import quantize_model
from fastsam_deploy.runtime import EngineSettings

from .networks import network_ms
from .photographs import RESULTS, ROOT, write_report
from .suite.machine import environment

SHAPE = (1, 3, 768, 1024)
WAYS = {"decoded": True, "undecoded": False}
ENGINES = {
    "ONNX Runtime": {"engine": "onnxruntime"},
    "OpenVINO": {"engine": "openvino", "precision": "fp32"},
}
"""OpenVINO would compute in BF16 where the processor can."""

TARGETS = {"ONNX Runtime": "cpu", "OpenVINO": "openvino"}
"""INT8 files as each of them computes fastest."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Networks with and without the decoding of boxes.")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models/fastsam-demo.pt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = _files(arguments.checkpoint, Path(folder))
        for engine, precision in product(ENGINES, ("fp32", "int8")):
            settings = EngineSettings(threads=arguments.threads, **ENGINES[engine])
            chosen = files["fp32" if precision == "fp32" else TARGETS[engine]]
            rows.append(_row(engine, precision, chosen, settings, arguments.rounds))
    settings = {"checkpoint": arguments.checkpoint.name, "input": SHAPE, "rounds": arguments.rounds}
    report = {"environment": environment([arguments.threads], quick=True), "settings": settings, "rows": rows}
    write_report(arguments.output, "undecoded", report, markdown(report))


def _files(checkpoint: Path, folder: Path) -> dict[str, dict[str, Path]]:
    """ "fp32" or a target of INT8 → way → file."""
    files: dict[str, dict[str, Path]] = {kind: {} for kind in ("fp32", *TARGETS.values())}
    for way, decoded in WAYS.items():
        files["fp32"][way] = export_direct(checkpoint, folder / f"{way}.onnx", imgsz=640, decoded=decoded).path
        for target in TARGETS.values():
            files[target][way] = folder / f"{way}-{target}.onnx"
            quantize_model(files["fp32"][way], files[target][way], ROOT / "examples/images", target=target)
    return files


def _row(engine: str, precision: str, files: dict[str, Path], settings: EngineSettings, rounds: int) -> dict[str, Any]:
    images = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    times = network_ms({way: (path, settings) for way, path in files.items()}, images, rounds)
    ratios = times["undecoded"] / times["decoded"]
    medians = {f"{way}_ms": round(float(np.median(values)), 2) for way, values in times.items()}
    return {"engine": engine, "precision": precision, **medians, "ratio": round(float(np.median(ratios)), 3)}


def markdown(report: dict[str, Any]) -> str:
    """The table of a report."""
    lines = ["| engine | weights | decoded, ms | undecoded, ms | ratio |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['engine']} | {row['precision']} | {row['decoded_ms']:.1f} | {row['undecoded_ms']:.1f} "
        f"| **{row['ratio']:.3f}** |"
        for row in report["rows"]
    ]
    env, used = report["environment"], report["settings"]
    made = (
        f"{used['checkpoint']} at {' × '.join(map(str, used['input'][2:]))}, {used['rounds']} rounds in turn; medians, "
        f"and of the ratio that of the rounds. {env['cpu']}."
    )
    return "\n".join([*lines, "", made]) + "\n"


if __name__ == "__main__":
    main()
