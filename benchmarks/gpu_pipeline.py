"""The whole pipeline on a GPU against the bare network, and against ultralytics on the same network.

    python -m benchmarks.gpu_pipeline                                  # demo model, ONNX Runtime's CUDA provider
    python -m benchmarks.gpu_pipeline --model FastSAM-s.plan --checkpoint FastSAM-s.pt

Contenders are asked in turn, image by image, in an order that changes:

    network     the network alone on memory of the device: enqueue, wait
    ours        TRTFastSAM.segment: array in, segments in the host's memory out
    no graphs   the same with every kernel launched anew (plans only: ONNX Runtime cannot be captured)
    ultralytics FastSAM(checkpoint)(image, retina_masks=True) on the same GPU, with --checkpoint

Before anything is timed, the masks are compared with those of the CPU's stages on the same network: an ONNX file runs
on the CPU for that, a plan where it can.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from fastsam_deploy.runtime import FastSAM, Segments
from fastsam_deploy.runtime.cuda.driver.device import Device, device_number
from fastsam_deploy.runtime.cuda.network import DeviceNetwork
from fastsam_deploy.runtime.engines import open_device_network
from fastsam_deploy.runtime.masks.overlap import mask_ious
from fastsam_deploy.runtime.settings import EngineSettings
from fastsam_deploy.runtime.stages.letterbox import fit_model
from fastsam_deploy.runtime.trt import TRTFastSAM

from .photographs import ROOT, add_options, photographs, write_report

LEAST_IOU = 0.99
PACKAGES = ("fastsam-deploy", "numpy", "onnxruntime-gpu", "onnxruntime", "tensorrt", "pycuda", "torch", "ultralytics")

Contender = Callable[[np.ndarray], Any]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parsed(argv)
    free = Device.open(device_number(arguments.device)).memory_free()
    network = open_device_network(arguments.model, EngineSettings(arguments.device))
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
    reference = "cpu" if arguments.model.suffix == ".onnx" else arguments.device
    with TRTFastSAM(network, **settings) as ours, FastSAM(arguments.model, reference, **settings) as cpu:
        worst = {label: _least_iou(ours.segment(image), cpu.segment(image), label) for label, image in images.items()}
        used = free - network.cuda_device.memory_free()
        beside = network.clone() if network.capturable else None
        plain = TRTFastSAM(beside, **settings, graphs=0) if beside is not None else None
        theirs = _ultralytics(arguments)
        rows = []
        for label, image in images.items():
            bare = Bare(network, ours, image)
            contenders: dict[str, Contender] = {"network": bare, "ours": ours.segment}
            if plain is not None:
                contenders["no graphs"] = plain.segment
            if theirs is not None:
                contenders["ultralytics"] = theirs(image)
            times = _timed(contenders, image, arguments.runs)
            bare.close()
            masks = len(ours.segment(image))
            rows.append({"image": label, "masks": masks, "worst_iou": round(worst[label], 5), "ms": times})
        description = ours.description
        if plain is not None and beside is not None:
            plain.close()
            beside.close()
    report = {
        "environment": _environment(arguments, network, description),
        "device_memory_mb": round(used / 1e6, 1),
        "images": rows,
    }
    table = markdown(report)
    write_report(arguments.output, "gpu_pipeline", report, table)
    return table


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="The pipeline on a GPU against the bare network and ultralytics.")
    parser.add_argument("--model", type=Path, default=ROOT / "models/fastsam-demo.onnx", help=".onnx or .plan")
    parser.add_argument("--checkpoint", type=Path, help="of the same network: ultralytics takes part with it")
    parser.add_argument("--device", default="cuda")
    add_options(parser)
    parser.add_argument("--imgsz", type=int, default=1024)
    parser.add_argument("--conf", type=float, default=0.4)
    parser.add_argument("--runs", type=int, default=50)
    return parser.parse_args(argv)


def _least_iou(found: Segments, wanted: Segments, label: str) -> float:
    if len(found) != len(wanted):
        sys.exit(f"{label}: {len(found)} masks on the GPU, {len(wanted)} on the CPU: nothing was timed")
    if not len(found):
        return 1.0
    least = float(np.diag(mask_ious(found.masks, wanted.masks)).min())
    if least < LEAST_IOU:
        sys.exit(f"{label}: a mask of the GPU overlaps that of the CPU by only {least:.4f}: nothing was timed")
    return least


class Bare:
    """The network alone, on inputs of an image's shape that lie on the device already."""

    def __init__(self, network: DeviceNetwork, model: TRTFastSAM, image: np.ndarray) -> None:
        self._network = network.clone()
        device = network.cuda_device
        name = model.spec.input
        self._inputs = {name: (1, 3, *fit_model((image.shape[0], image.shape[1]), model.spec, model.imgsz).input_hw)}
        shapes = {**self._inputs, **self._network.output_shapes(self._inputs)}
        kinds = {info.name: np.dtype(info.dtype) for info in (*network.inputs, *network.outputs)}
        self._memory = {key: device.memory(prod(shape) * kinds[key].itemsize) for key, shape in shapes.items()}
        self._pointers = {key: memory.pointer for key, memory in self._memory.items()}
        self._stream = self._network.stream or device.stream()
        self._stream.fill(self._memory[name], 0, self._memory[name].nbytes)

    def __call__(self, _: np.ndarray) -> None:
        with self._network.cuda_device.active():
            self._network.enqueue(self._pointers, self._inputs, self._stream.handle)
            self._stream.synchronize()

    def close(self) -> None:
        """Free all of it."""
        self._stream.synchronize()
        self._network.close()
        for memory in self._memory.values():
            memory.free()


def _ultralytics(arguments: argparse.Namespace) -> Callable[[np.ndarray], Contender] | None:
    """Image → the contender for it, None where no checkpoint is given."""
    if arguments.checkpoint is None:
        return None
    import ultralytics

    model = ultralytics.FastSAM(str(arguments.checkpoint))
    number = arguments.device.partition(":")[2] or "0"
    settings = {"imgsz": arguments.imgsz, "conf": arguments.conf, "iou": 0.9, "verbose": False}

    def prepared(image: np.ndarray) -> Contender:
        bgr = np.ascontiguousarray(image[..., ::-1])

        def run(_: np.ndarray) -> None:
            masks = model(bgr, retina_masks=True, device=f"cuda:{number}", **settings)[0].masks
            if masks is not None:
                masks.data.cpu().numpy()  # ours are in the host's memory too

        return run

    return prepared


def _timed(contenders: dict[str, Contender], image: np.ndarray, runs: int) -> dict[str, dict[str, float]]:
    for run in contenders.values():
        for _ in range(3):
            run(image)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(runs):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = perf_counter()
            contenders[name](image)
            times[name].append((perf_counter() - start) * 1000)
    return {
        name: {"median": round(median(ms), 3), "min": round(min(ms), 3), "max": round(max(ms), 3)}
        for name, ms in times.items()
    }


def _environment(arguments: argparse.Namespace, network: DeviceNetwork, description: dict[str, Any]) -> dict[str, Any]:
    device = network.cuda_device
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "gpu": device.name,
        "driver_cuda": device.driver_version,
        "python": platform.python_version(),
        **{package: found for package in PACKAGES if (found := _version(package))},
        "model": arguments.model.name,
        "engine": {name: value for name, value in description.items() if isinstance(value, (str, bool, float))},
        "imgsz": arguments.imgsz,
        "conf": arguments.conf,
        "runs": arguments.runs,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def markdown(report: dict[str, Any]) -> str:
    """Medians in milliseconds, and ratios to the bare network and to ultralytics."""
    names = list(report["images"][0]["ms"])
    titles = {"network": "network alone", "ours": "**ours**"}
    header = ["image", "masks", *(titles.get(name, name) for name in names), "ours / network"]
    header += ["ultralytics / ours"] if "ultralytics" in names else []
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in report["images"]:
        ms = {name: row["ms"][name]["median"] for name in names}
        cells = [row["image"], str(row["masks"]), *(f"{ms[name]:.2f}" for name in names)]
        cells.append(f"{ms['ours'] / ms['network']:.2f}×")
        if "ultralytics" in names:
            cells.append(f"{ms['ultralytics'] / ms['ours']:.1f}×")
        lines.append(f"| {' | '.join(cells)} |")
    environment = report["environment"]
    engine = environment["engine"]
    lines += [
        "",
        f"Milliseconds, medians of {environment['runs']} runs taken in turn; {environment['gpu']}; "
        f"{environment['model']} at imgsz {environment['imgsz']}, conf {environment['conf']}; "
        f"{engine.get('engine')} {engine.get('version')}. Device memory of network and pipeline: "
        f"{report['device_memory_mb']:.0f} MB.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
