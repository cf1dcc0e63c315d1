"""Ours against ultralytics on the CPU: same checkpoint, same images, same masks, runs taken in turn.

    python benchmarks/cpu_vs_ultralytics.py            # measures, writes results/cpu_vs_ultralytics.{json,md}
    python benchmarks/cpu_vs_ultralytics.py --runs 1   # does it still work?

Three contenders, each in a process of its own under this one, so that their thread pools and their memory do not
mix; the parent asks them one after the other, image by image, so that a machine that slows down slows all three:

    ours      the ONNX file of the checkpoint in ONNX Runtime, FastSAM.segment
    retina    ultralytics FastSAM(checkpoint)(image, retina_masks=True): the same output, checked before timing
    default   the same without retina_masks: masks at network size, not at the image's

Images come as RGB arrays in memory: reading files is not part of it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from reports import lines_of, photographs, processor, write_report

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results"
CONTENDERS = ("ours", "retina", "default")
STAGES = ("before", "network", "after", "total")


def main() -> None:
    arguments = _arguments()
    images = photographs(arguments.images, arguments.megapixels)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        onnx = _export(arguments.checkpoint, Path(folder) / "model.onnx", arguments.imgsz)
        workers = {}
        for name in CONTENDERS:
            ours, theirs = context.Pipe()
            source = str(onnx if name == "ours" else arguments.checkpoint)
            settings = {"imgsz": arguments.imgsz, "conf": arguments.conf, "iou": 0.9, "threads": arguments.threads}
            context.Process(target=_work, args=(name, source, settings, theirs), daemon=True).start()
            workers[name] = ours
        memory_before = {name: worker.recv()["peak_mb"] for name, worker in workers.items()}
        rows = [_measure(workers, name, image, arguments.runs) for name, image in images.items()]
        for worker in workers.values():
            worker.send(None)
        memory = {name: worker.recv()["peak_mb"] for name, worker in workers.items()}
    report = {
        "environment": _environment(arguments),
        "images": rows,
        "memory_mb": {name: {"loaded": memory_before[name], "peak": memory[name]} for name in CONTENDERS},
    }
    table = markdown(report)
    print(table)
    if arguments.output is not None:
        write_report(arguments.output, "cpu_vs_ultralytics", report, table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ours against ultralytics on the CPU.")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models/fastsam-demo.pt")
    parser.add_argument("--images", type=Path, default=ROOT / "examples/images", help="folder of photographs")
    parser.add_argument(
        "--megapixels", type=float, nargs="+", default=[0.65, 3.0], help="each photograph is resized to"
    )
    parser.add_argument("--imgsz", type=int, default=1024)
    parser.add_argument("--conf", type=float, default=0.4)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args()


def _export(checkpoint: Path, onnx: Path, imgsz: int) -> Path:
    from fastsam_deploy.export.to_onnx import export_onnx

    export_onnx(checkpoint, onnx, imgsz=imgsz)
    return onnx


def _measure(workers: dict[str, Connection], label: str, image: np.ndarray, runs: int) -> dict[str, Any]:
    """Correct first; then `runs` rounds, each asking every contender once, in an order that changes."""
    answers = {name: _ask(worker, image, masks=True) for name, worker in workers.items()}
    worst = _worst_iou(answers["ours"]["masks"], answers["retina"]["masks"])
    if not worst >= 0.99:
        sys.exit(f"{label}: a mask of ours overlaps that of ultralytics by only {worst:.4f}: nothing was timed")
    times: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for run in range(runs):
        for name in CONTENDERS[run % 3 :] + CONTENDERS[: run % 3]:
            times[name].append(_ask(workers[name], image)["ms"])
    row: dict[str, Any] = {
        "image": label,
        "megapixels": round(image.shape[0] * image.shape[1] / 1e6, 2),
        "masks": len(answers["ours"]["masks"]),
        "worst_iou": round(worst, 5),
        "runs": runs,
    }
    for name, measured in times.items():
        values = {stage: [one[stage] for one in measured] for stage in STAGES}
        row[name] = {
            stage: {"median": round(median(ms), 2), "min": round(min(ms), 2), "max": round(max(ms), 2)}
            for stage, ms in values.items()
        }
    around = {name: [one["before"] + one["after"] for one in times[name]] for name in CONTENDERS}
    # Ratios round by round, so that a slow moment of the machine is in both numbers.
    for other in ("retina", "default"):
        row[f"around_ratio_{other}"] = round(median(map(_ratio, around[other], around["ours"])), 1)
        totals = [[one["total"] for one in times[name]] for name in (other, "ours")]
        row[f"total_ratio_{other}"] = round(median(map(_ratio, *totals)), 2)
    return row


def _ratio(theirs: float, ours: float) -> float:
    return theirs / ours


def _ask(worker: Connection, image: np.ndarray, masks: bool = False) -> dict[str, Any]:
    worker.send((image, masks))
    answer: dict[str, Any] = worker.recv()
    return answer


def _worst_iou(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    from pycocotools import mask as coco

    if len(ours) != len(theirs):
        sys.exit(f"ours has {len(ours)} masks, ultralytics {len(theirs)}: not the same answer, nothing was timed")
    if not ours:
        return 1.0
    return float(coco.iou(ours, theirs, [0] * len(theirs)).max(axis=1).min())


def _work(name: str, source: str, settings: dict[str, Any], parent: Connection) -> None:
    """A contender's process: answers (image, masks wanted?) until None comes."""
    run = (_ours if name == "ours" else _ultralytics)(name, source, settings)
    parent.send({"peak_mb": _peak_mb()})
    while (request := parent.recv()) is not None:
        parent.send(run(*request))
    parent.send({"peak_mb": _peak_mb()})


def _peak_mb() -> float:
    # Not getrusage: its maximum starts with that of the parent, which exported the model.
    peak = next(line for line in lines_of("/proc/self/status") if line.startswith("VmHWM"))
    return round(int(peak.split()[1]) / 1024, 1)


def _ours(_: str, source: str, settings: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    from fastsam_deploy.runtime import FastSAM

    model = FastSAM(source, **settings)

    def run(image: np.ndarray, masks: bool) -> dict[str, Any]:
        start = perf_counter()
        found = model.segment(image)
        total = (perf_counter() - start) * 1000
        network = found.timing_ms["engine"]
        before = found.timing_ms["load"] + found.timing_ms["letterbox"]
        # What is left, and not the sum of the named stages: what falls between them counts as well.
        ms = {"before": before, "network": network, "after": total - network - before, "total": total}
        return {"ms": ms, "masks": found.masks.rle() if masks else None}

    return run


def _ultralytics(name: str, source: str, settings: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    import torch
    import ultralytics

    torch.set_num_threads(settings["threads"])
    model = ultralytics.FastSAM(source)
    keep = {key: settings[key] for key in ("imgsz", "conf", "iou")}

    def run(image: np.ndarray, masks: bool) -> dict[str, Any]:
        from pycocotools import mask as coco

        bgr = np.ascontiguousarray(image[..., ::-1])
        start = perf_counter()
        result = model(bgr, retina_masks=name == "retina", device="cpu", verbose=False, **keep)[0]
        total = (perf_counter() - start) * 1000
        speed = result.speed
        ms = {
            "before": speed["preprocess"],
            "network": speed["inference"],
            "after": speed["postprocess"],
            "total": total,
        }
        if not masks or result.masks is None:
            return {"ms": ms, "masks": []}
        dense = result.masks.data.numpy().astype(np.uint8)
        return {"ms": ms, "masks": [coco.encode(np.asfortranarray(mask)) for mask in dense]}

    return run


def _environment(arguments: argparse.Namespace) -> dict[str, Any]:
    packages = ("fastsam-deploy", "onnxruntime", "numpy", "torch", "ultralytics")
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": processor(),
        "threads": arguments.threads,
        "python": platform.python_version(),
        "opencv": cv2.__version__,
        **{package: version(package) for package in packages},
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
    titles = {"ours": "**ours**", "retina": "ultralytics, retina_masks", "default": "ultralytics, default¹"}
    for row in report["images"]:
        for name in CONTENDERS:
            cells = [f"{row[name][stage]['median']:.1f}" for stage in STAGES]
            ratios = ["1", "1"]
            if name != "ours":
                ratios = [f"{row[f'around_ratio_{name}']:.0f}×", f"{row[f'total_ratio_{name}']:.1f}×"]
            first = [row["image"], str(row["masks"])] if name == "ours" else ["", ""]
            lines.append(f"| {' | '.join([*first, titles[name], *cells, *ratios])} |")
    memory = "; ".join(f"{titles[name].strip('*')} {report['memory_mb'][name]['peak']:.0f} MB" for name in CONTENDERS)
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
