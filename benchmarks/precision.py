"""What FP16 and INT8 cost in masks and gain in time, on a CPU: python -m benchmarks.precision FOLDER

Fidelity is measured beside the FP32 file on photographs that the calibration did not see. Times are those of the
network alone at 768 x 1024, all files in turn and over again, so that a busy machine is busy for all of them; GPU times
cannot be had here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from fastsam_deploy.export.graph.fp16 import decoding_nodes, rounded_like_fp16
from fastsam_deploy.export.quantize.graph import layers_of, with_folded_weights
from fastsam_deploy.export.quantize.judge import Judge, QuantizationLimits
from fastsam_deploy.export.quantize.to_int8 import quantize_model
from fastsam_deploy.runtime.stages.image import load_image
from fastsam_deploy.runtime.stages.letterbox import fit, letterbox
from fastsam_deploy.runtime.system.atomic import write_atomically

from .photographs import ROOT, as_json, processor
from .suite.machine import demo_model

SIZE_HW = (768, 1024)
EVERYTHING = QuantizationLimits(0, 0)


def fp16_parts(model: onnx.ModelProto) -> dict[str, set[str]]:
    """What can be kept FP32 in an FP16 file: name → nodes."""
    layers = layers_of(model)
    ends = {layer.node for layer in layers if layer.ends_head}
    stem = {layer.node for layer in layers if layer.kept and not layer.ends_head}
    head = {layer.node for layer in layers if layer.group.count(".") == 2}
    decoding = decoding_nodes(model.graph)
    return {
        "nothing": set(),
        "decoding": decoding,
        "decoding, ends of the head": decoding | ends,
        "decoding, convolutions of the head": decoding | head,
        "decoding, convolutions of the stem": decoding | stem,
    }


def times_ms(
    runners: dict[str, Callable[[NDArray[np.float32]], object]], images: NDArray[np.float32], rounds: int
) -> dict[str, dict[str, float]]:
    """Median and least of each, measured in turn."""
    spent: dict[str, list[float]] = {name: [] for name in runners}
    for i in range(rounds + 2):
        for name, run in runners.items():
            start = time.perf_counter()
            run(images)
            if i >= 2:
                spent[name].append((time.perf_counter() - start) * 1000)
    return {
        name: {"median_ms": round(float(np.median(all_ms)), 1), "least_ms": round(min(all_ms), 1)}
        for name, all_ms in spent.items()
    }


def onnxruntime_runner(path: Path, threads: int) -> Callable[[NDArray[np.float32]], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def openvino_runner(path: Path, threads: int) -> Callable[[NDArray[np.float32]], object]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(str(path), "CPU", settings)
    return lambda images: compiled({"images": images})


def measure(model: Path, folder: Path, imgsz: int, calibrate: int, rounds: int, threads: int) -> dict[str, Any]:
    paths = sorted(folder.glob("*.jpg"))
    fidelity: dict[str, Any] = {}
    files = {"fp32": model}
    with tempfile.TemporaryDirectory() as place:
        plans = {"int8 tensorrt": ("tensorrt", False), "int8 tensorrt, rest fp16": ("tensorrt", True)}
        plans |= {f"int8 {target}": (target, False) for target in ("cpu", "vnni", "openvino")}
        for name, (target, half) in plans.items():
            path = Path(place) / f"{name}.onnx"
            settings: dict[str, Any] = {"target": target, "half": half, "count": calibrate, "imgsz": imgsz}
            made = quantize_model(model, path, paths, limits=EVERYTHING, **settings)
            fidelity[name] = {**asdict(made.likeness), "int8": len(made.quantized), "high": len(made.kept)}
            if not half:
                files[name] = path
            print(name, fidelity[name], flush=True)
        judge = Judge(model, paths[1 :: len(paths) // 8][:8], imgsz)
        plain = with_folded_weights(onnx.load(model))
        for name, nodes in fp16_parts(plain).items():
            graph = rounded_like_fp16(plain, nodes)
            key = f"fp16, fp32: {name}"
            fidelity[key] = asdict(judge.judge(graph, as_written=True))
            print(key, fidelity[key], flush=True)
        return {"fidelity": fidelity, "times": _times(files, paths[0], rounds, threads)}


def _times(files: dict[str, Path], photograph: Path, rounds: int, threads: int) -> dict[str, Any]:
    pixels = load_image(photograph)
    images = letterbox(pixels, fit((pixels.shape[0], pixels.shape[1]), SIZE_HW))[None]
    runners = {f"onnxruntime, {name}": onnxruntime_runner(path, threads) for name, path in files.items()}
    if find_spec("openvino"):
        runners |= {f"openvino f32, {name}": openvino_runner(path, threads) for name, path in files.items()}
    return times_ms(runners, images, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs to calibrate and to compare on")
    parser.add_argument("--model", type=Path, default=ROOT / "models/fastsam-demo.onnx")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/precision.json")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--calibrate", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    measured = measure(given.model, given.folder, given.imgsz, given.calibrate, given.rounds, given.threads)
    libraries = ("onnxruntime", "openvino", "onnx", "numpy")
    about = {
        "demo_model": demo_model(),
        "model": given.model.name,
        "photographs": given.folder.name,
        "imgsz": given.imgsz,
        "calibrated_on": given.calibrate,
        "size_hw": SIZE_HW,
        "threads": given.threads,
        "processors": os.cpu_count(),
        "cpu": processor(),
        "versions": {name: version(name) for name in libraries if find_spec(name)},
    }
    write_atomically(given.output, as_json({**about, **measured}))


if __name__ == "__main__":
    main()
