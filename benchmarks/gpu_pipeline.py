"""The whole pipeline on a GPU against the bare network, and against ultralytics on the same network.

    python -m benchmarks.gpu_pipeline                                  # demo model, ONNX Runtime's CUDA provider
    python -m benchmarks.gpu_pipeline --model FastSAM-s.plan --checkpoint FastSAM-s.pt

Contenders are asked in turn, image by image, in an order that changes; times are of one image:

    network      the network alone on memory of the device, as a graph where it can be captured, timed by events
    single       TRTFastSAM.segment: array in, segments in the host's memory out
    batch        segment_batch of 16 arrays
    stream       segment_stream of 16 arrays
    JPEG single  segment of a file
    JPEG stream  segment_stream of 16 files
    decoding     reading that file alone
    nvImageCodec the same by that library on the GPU, if it is installed; its effect on the masks is in the report
    no graphs    single, with every kernel launched anew (plans only: ONNX Runtime cannot be captured)
    ultralytics  FastSAM(checkpoint)(image, retina_masks=True) on the same GPU in the same precision

Before anything is timed, the masks are compared with those of the CPU's stages on the same network: an ONNX file runs
on the CPU for that, a plan where it can. Then each stage is timed on the device. The goals (gpu_goals.py) follow the
table, each with whether it was reached.

The checkpoint belongs to the model: by default the `.pt` file beside it, if there is one and ultralytics is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from fastsam_deploy.runtime import FastSAM, Segments
from fastsam_deploy.runtime.cuda.driver.device import Device, device_number
from fastsam_deploy.runtime.cuda.network import DeviceNetwork
from fastsam_deploy.runtime.engines import open_device_network
from fastsam_deploy.runtime.measure.fidelity import compare
from fastsam_deploy.runtime.settings import EngineSettings
from fastsam_deploy.runtime.system.packages import version_of
from fastsam_deploy.runtime.trt import TRTFastSAM

from .gpu_contenders import Bare, Contender, jpeg_decoder, stage_times, timed, ultralytics, ways
from .gpu_goals import bound_by_decoding, goals, size_of
from .photographs import ROOT, add_options, photographs, write_report

LEAST_IOU = 0.99
LEAST_PAIRED = 0.99
"""Share of the segments that must have their like on the CPU: rows at the thresholds may come and go."""

PACKAGES = ("fastsam-deploy", "numpy", "onnxruntime", "tensorrt", "pycuda", "torch", "ultralytics")


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parsed(argv)
    free = Device.open(device_number(arguments.device)).memory_free()
    settings = EngineSettings(arguments.device, precision=arguments.precision, search=arguments.search)
    network = open_device_network(arguments.model, settings)
    measure(network, arguments, free)
    network.close()


def measure(network: DeviceNetwork, arguments: argparse.Namespace, free: int) -> str:
    """Compare, time, write the report; the table.

    Args:
        network: open on its device.
        free: bytes of device memory that were free before it was opened.
    """
    settings = {"imgsz": arguments.imgsz, "conf": arguments.conf}
    images = photographs(arguments.images, arguments.megapixels)
    with tempfile.TemporaryDirectory() as folder, TRTFastSAM(network, **settings) as ours:
        ours.warmup([(1, *image.shape[:2]) for image in images.values()])
        # Before any other network is opened: of a plan, the CPU's stages need one more on the same device.
        used = free - network.cuda_device.memory_free()
        worst = _compared(ours, images, arguments, settings)
        rows = []
        for number, (label, image) in enumerate(images.items()):
            file = Path(folder) / f"{number}.jpg"
            cv2.imwrite(str(file), image[..., ::-1])
            row = _measured(network, ours, image, file, arguments)
            rows.append({"image": label, "megapixels": round(image.size / 3e6, 2), "worst_iou": worst[label], **row})
        threads = ours._segmenter.for_stream()[1]
        report = {
            "environment": _environment(arguments, network, ours.description),
            "device_memory_mb": round(used / 1e6, 1),
            "decoding_threads": threads,
            "images": rows,
        }
    table = markdown(report)
    write_report(arguments.output, "gpu_pipeline", report, table)
    return table


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The pipeline on a GPU against the bare network and ultralytics.")
    parser.add_argument("--model", type=Path, default=ROOT / "models/fastsam-demo.onnx", help=".onnx or .plan")
    parser.add_argument("--checkpoint", type=Path, help="of the same network, for ultralytics; default: beside it")
    parser.add_argument("--size", choices=["n", "s", "x"], help="of the network, for the goals; default: by its name")
    parser.add_argument("--precision", help="of ONNX Runtime: tf32 for FP32 files; default: that of the file")
    parser.add_argument("--search", help="of ONNX Runtime: heuristic or exhaustive")
    parser.add_argument("--device", default="cuda")
    add_options(parser)
    parser.add_argument("--imgsz", type=int, default=1024)
    parser.add_argument("--conf", type=float, default=0.4)
    parser.add_argument("--runs", type=int, default=50)
    arguments = parser.parse_args(argv)
    beside = arguments.model.with_suffix(".pt")
    if arguments.checkpoint is None and beside.is_file() and _has_peer():
        arguments.checkpoint = beside
    arguments.size = arguments.size or size_of(arguments.model)
    return arguments


def _has_peer() -> bool:
    if not all(importlib.util.find_spec(name) for name in ("torch", "ultralytics")):
        return False
    import torch

    return bool(torch.cuda.is_available())


def _compared(
    ours: TRTFastSAM, images: dict[str, np.ndarray], arguments: argparse.Namespace, settings: dict[str, Any]
) -> dict[str, float]:
    """Least IoU of each image's masks with those of the CPU's stages."""
    reference = "cpu" if arguments.model.suffix == ".onnx" else arguments.device
    with FastSAM(arguments.model, reference, **settings) as cpu:
        return {label: _least_iou(ours.segment(image), cpu.segment(image), label) for label, image in images.items()}


def _least_iou(found: Segments, wanted: Segments, label: str) -> float:
    """Of masks that belong together: the order of equal scores may differ."""
    pairs = compare(wanted, found)
    if len(pairs.ious) < LEAST_PAIRED * max(len(found), len(wanted)):
        sys.exit(f"{label}: {len(found)} masks on the GPU, {len(wanted)} on the CPU, {len(pairs.ious)} of them alike")
    least = float(pairs.ious.min(initial=1.0))
    if least < LEAST_IOU:
        sys.exit(f"{label}: a mask of the GPU overlaps that of the CPU by only {least:.4f}: nothing was timed")
    return round(least, 5)


def _measured(
    network: DeviceNetwork, ours: TRTFastSAM, image: np.ndarray, file: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One image: masks, milliseconds of each contender, and of each stage on the device."""
    settings = {"imgsz": arguments.imgsz, "conf": arguments.conf}
    bare = Bare(network, ours, image)
    contenders: dict[str, Contender] = {"network": bare, **ways(ours, image, file)}
    decoder, more = jpeg_decoder(network.cuda_device.number), {}
    if decoder is not None:
        content = file.read_bytes()
        contenders["nvImageCodec"] = timed(lambda: decoder.decoded(content))
        ious = compare(ours.segment(file), ours.segment(decoder.decoded(content))).ious
        if len(ious):
            more = {"nvimagecodec_ious": [round(float(value), 4) for value in (ious.min(), ious.mean())]}
    beside = network.clone()
    with TRTFastSAM(beside, **settings, graphs=0) as plain:
        if network.capturable:
            contenders["no graphs"] = ways(plain, image, file)["single"]
        if arguments.checkpoint is not None:
            precision = str(ours.description.get("precision", ours.spec.precision))
            contenders["ultralytics"] = ultralytics(arguments, arguments.checkpoint, precision)(image)
        times = _timed(contenders, arguments.runs)
        plain.segment(image)
        stages = {name: _summary(ms) for name, ms in stage_times(plain, image, max(3, arguments.runs // 5)).items()}
    bare.close()
    beside.close()
    return {"masks": len(ours.segment(image)), "ms": times, "stages_ms": stages, **more}


def _timed(contenders: dict[str, Contender], runs: int) -> dict[str, dict[str, float]]:
    for run in contenders.values():
        for _ in range(3):
            run()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(runs):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(contenders[name]())
    return {name: _summary(ms) for name, ms in times.items()}


def _summary(ms: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(ms), 3), "min": round(min(ms), 3), "max": round(max(ms), 3)}


def _environment(arguments: argparse.Namespace, network: DeviceNetwork, description: dict[str, Any]) -> dict[str, Any]:
    device = network.cuda_device
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "gpu": device.name,
        "driver_cuda": device.driver_version,
        "python": platform.python_version(),
        **{package: found for package in PACKAGES if (found := version_of(package))},
        "model": arguments.model.name,
        "size": arguments.size,
        "engine": {name: value for name, value in description.items() if isinstance(value, (str, bool, float))},
        "imgsz": arguments.imgsz,
        "conf": arguments.conf,
        "runs": arguments.runs,
    }


def markdown(report: dict[str, Any]) -> str:
    """Medians in milliseconds, the stages, and the goals."""
    environment, rows = report["environment"], report["images"]
    names = list(rows[0]["ms"])
    stages = list(rows[0]["stages_ms"])
    medians = [{name: row["ms"][name]["median"] for name in names} for row in rows]
    lines = _table(["image", "masks", *names], rows, "ms", names)
    lines += ["", "Stages on the device, kernel by kernel, timed by events:", ""]
    lines += _table(["image", "masks", *stages], rows, "stages_ms", stages)
    lines += ["", "Goals:", ""]
    for row, ms in zip(rows, medians, strict=True):
        lines += [str(goal) for goal in goals(row["image"], environment["size"], row["megapixels"], ms)]
        lines.append(bound_by_decoding(row["image"], ms, report["decoding_threads"]))
        if "nvimagecodec_ious" in row:
            least, mean = row["nvimagecodec_ious"]
            lines.append(f"- {row['image']}: masks of the file as nvImageCodec decodes it: IoU {mean} (least {least})")
    engine = environment["engine"]
    lines += [
        "",
        f"Milliseconds an image, medians of {environment['runs']} runs taken in turn; {environment['gpu']}; "
        f"{environment['model']} ({environment['size']}) at imgsz {environment['imgsz']}, conf {environment['conf']}; "
        f"{engine.get('engine')} {engine.get('version')}, {engine.get('precision')}. Device memory of network and "
        f"pipeline: {report['device_memory_mb']:.0f} MB.",
    ]
    return "\n".join(lines) + "\n"


def _table(header: list[str], rows: list[dict[str, Any]], key: str, names: list[str]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in rows:
        cells = [row["image"], str(row["masks"]), *(f"{row[key][name]['median']:.2f}" for name in names)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
