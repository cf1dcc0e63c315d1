"""Which files TensorRT for RTX takes, for which GPUs, and the size of the plans: python -m benchmarks.rtx_plans

NVIDIA's own parser and builder read and build every kind of file that this project writes, and those of ultralytics. No
GPU is needed, and none is used: nothing runs, so there are neither times nor results. For each plan the types of its
convolutions, from NVIDIA's log of the build, are compared with those in the file. Needs the extras [export,clip-export]
and [rtx-export]. The largest plan (x in FP32) takes 1.1 GB of memory.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from fastsam_deploy.export.graph.fp16 import computed_in_fp16
from fastsam_deploy.export.tensorrt.check import ModelCheck, check_model
from fastsam_deploy.export.tensorrt.precision import convolution_kinds

from .photographs import RESULTS, ROOT, write_report

MODELS = ROOT / "models"
EVERY = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
NOT_TURING = EVERY[1:]


def _direct(folder: Path) -> Path:
    from fastsam_deploy.export.direct.to_onnx import export_direct

    return export_direct(MODELS / "fastsam-demo.pt", folder / "demo.onnx", imgsz=640).path


def _exported(folder: Path, **settings: Any) -> Path:
    from fastsam_deploy.export.to_onnx import export_onnx

    return export_onnx(MODELS / "fastsam-demo.pt", folder / "demo.onnx", imgsz=640, **settings).path


def _with_nms(folder: Path) -> Path:
    from fastsam_deploy.runtime.suppression import Suppression

    return _exported(folder, suppression=Suppression(0.001, 0.9, 300))


def _quantized(folder: Path, target: str, half: bool) -> Path:
    from importlib.resources import files

    from fastsam_deploy.export.quantize.judge import QuantizationLimits
    from fastsam_deploy.export.quantize.to_int8 import quantize_model

    photographs = Path(str(files("fastsam_deploy.export.photographs")))
    # Three photographs calibrate badly; here it is the graph that counts.
    lenient = QuantizationLimits(0, 0)
    output = folder / "int8.onnx"
    source = MODELS / "fastsam-demo.onnx"
    return quantize_model(source, output, photographs, target=target, half=half, limits=lenient, imgsz=320).path


def _random(folder: Path, size: str, half: bool) -> Path:
    """FastSAM's architecture (26 bins) with random weights, as its checkpoints cannot be shipped here."""
    import torch
    from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

    from fastsam_deploy.export.checkpoint.load import load_checkpoint
    from fastsam_deploy.export.graph.finish import DEFAULT_OPSET, tidied
    from fastsam_deploy.export.graph.trace import graph_from_network

    torch.manual_seed(0)
    network = SegmentationModel({**yaml_model_load(f"yolov8{size}-seg.yaml"), "reg_max": 26}, nc=1, verbose=False)
    network.names = {0: "object"}
    torch.save({"model": network.half(), "train_args": {}}, folder / "random.pt")
    loaded = load_checkpoint(folder / "random.pt").network
    graph = graph_from_network(loaded, (2, 320, 320), dynamic=True, opset=DEFAULT_OPSET, exporter="dynamo")
    graph = tidied(graph, channels=(37, 32), dynamic=True, simplify=True)
    onnx.save(computed_in_fp16(graph) if half else graph, folder / f"{size}.onnx")
    return folder / f"{size}.onnx"


@functools.cache
def _clip_folder(half: bool) -> Path:
    """ViT-B/32 with random weights, made once."""
    import open_clip

    from fastsam_deploy.export.clip.source import source_from_open_clip
    from fastsam_deploy.export.clip.to_clip import write_clip

    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model, tokenizer = open_clip.create_model("ViT-B-32", pretrained=None), open_clip.get_tokenizer("ViT-B-32")
    return write_clip(source_from_open_clip(model, tokenizer, "random"), folder / "clip", half=half).path


def _ultralytics(folder: Path, **settings: Any) -> Path:
    from ultralytics import YOLO

    checkpoint = folder / "yolo.pt"
    shutil.copyfile(MODELS / "fastsam-demo.pt", checkpoint)
    return Path(YOLO(checkpoint, task="segment").export(format="onnx", imgsz=640, **settings))


Maker = Callable[[Path], Path]

CASES: dict[str, tuple[Maker, tuple[str, ...]]] = {
    "demo, FP32": (lambda folder: MODELS / "fastsam-demo.onnx", EVERY),
    "demo, FP32, one shape": (lambda folder: _exported(folder, dynamic=False), EVERY),
    "demo, exported without PyTorch": (_direct, EVERY),
    "demo, --compact": (lambda folder: _exported(folder, compact=True), EVERY),
    "demo, FP16 (--half)": (lambda folder: _exported(folder, half=True), EVERY),
    "demo, FP16, one shape": (lambda folder: _exported(folder, half=True, dynamic=False), EVERY),
    "demo, --nms": (_with_nms, ()),
    "demo, INT8 for TensorRT, rest FP16": (lambda folder: _quantized(folder, "tensorrt", True), NOT_TURING),
    "demo, INT8 for TensorRT, rest FP32": (lambda folder: _quantized(folder, "tensorrt", False), NOT_TURING),
    "demo, INT8 for processors": (lambda folder: _quantized(folder, "cpu", False), ()),
    "s, 26 bins, FP32": (lambda folder: _random(folder, "s", False), EVERY),
    "s, 26 bins, FP16": (lambda folder: _random(folder, "s", True), EVERY),
    "x, 26 bins, FP32": (lambda folder: _random(folder, "x", False), EVERY),
    "x, 26 bins, FP16": (lambda folder: _random(folder, "x", True), EVERY),
    "CLIP ViT-B/32, images, FP32": (lambda folder: _clip_folder(False) / "image.onnx", NOT_TURING),
    "CLIP ViT-B/32, images, FP16": (lambda folder: _clip_folder(True) / "image.onnx", EVERY),
    "CLIP ViT-B/32, texts, FP32": (lambda folder: _clip_folder(False) / "text.onnx", NOT_TURING),
    "CLIP ViT-B/32, texts, FP16": (lambda folder: _clip_folder(True) / "text.onnx", EVERY),
    "ultralytics, plain": (lambda folder: _ultralytics(folder, dynamic=True), EVERY),
    "ultralytics, nms=True": (lambda folder: _ultralytics(folder, dynamic=True, nms=True), ()),
}
"""Name → what makes the file, and the GPUs that take it."""


FEW = ("sm75", "sm86", "sm120")
"""For large files; the others in NVIDIA's list take what these take."""


def checked(name: str) -> dict[str, Any]:
    """The result for one case."""
    with tempfile.TemporaryDirectory() as folder:
        path = CASES[name][0](Path(folder))
        gpus = EVERY if name.startswith("demo") else FEW
        # One by one, as sm75 stands alone in a list.
        checks = [check_model(path, gpu) for gpu in gpus]
        check = replace(checks[0], verdicts=tuple(verdict for one in checks for verdict in one.verdicts))
        graph = onnx.load(path)
        products = any(node.op_type in ("MatMul", "Gemm") for node in graph.graph.node)
        kinds = Counter(convolution_kinds(graph))
        told = _told(check, kinds, products)
        return {"name": name, "bytes": path.stat().st_size, "convolutions": dict(kinds), **told}


def same_types(plan: dict[str, int], file: dict[str, int], products: bool) -> bool:
    """Whether the convolutions of a plan have the types of the file: as many of each type.

    In a network with matrix products, which are counted too, the types alone are compared; without convolutions, none.
    """
    return not file or (plan.keys() == file.keys() if products else plan == file)


def _told(check: ModelCheck, kinds: Counter[str], products: bool) -> dict[str, Any]:
    gpus = {}
    for verdict in check.verdicts:
        if verdict.layers is None:
            gpus[verdict.gpu] = {"reason": verdict.reason}
        else:
            layers = {"convolutions": dict(verdict.layers.convolutions), "others": dict(verdict.layers.others)}
            same = same_types(dict(verdict.layers.convolutions), dict(kinds), products)
            gpus[verdict.gpu] = {"plan_bytes": verdict.plan_bytes, **layers, "types_are_those_of_the_file": same}
    shapes = {name: str(shapes) for name, shapes in check.shapes.items()}
    return {"shapes": shapes, "library": check.version, "gpus": gpus}


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    lines = [
        "# Files that TensorRT for RTX takes",
        "",
        f"TensorRT for RTX {report['library']} (the wheels {' and '.join(report['wheels'])}), on a processor, without "
        "a GPU: nothing was run. Megabytes of the plan for each kind of GPU; then the types of its convolutions (of "
        "CLIP: with the matrix products), and whether they are those of the file. Made by "
        "`python -m benchmarks.rtx_plans`.",
        "",
        "| file | " + " | ".join(EVERY) + " | convolutions | as in the file |",
        "|---|" + "--:|" * len(EVERY) + "---|---|",
    ]
    reasons: dict[str, list[str]] = {}
    for row in report["rows"]:
        cells, last = [], {}
        for gpu in EVERY:
            told = row["gpus"].get(gpu, {})
            if "plan_bytes" in told:
                cells.append(f"{told['plan_bytes'] / 1e6:.0f}")
                last = told
            else:
                cells.append("no" if told else "")
            if "reason" in told:
                reasons.setdefault(f"{row['name']}: {told['reason']}", []).append(gpu)
        types = ", ".join(f"{n} {kind}" for kind, n in sorted(last.get("convolutions", {}).items()))
        passed = all(told.get("types_are_those_of_the_file", True) for told in row["gpus"].values())
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {types or '–'} | {'yes' if passed else '**no**'} |")
    lines += ["", "Refused:", ""]
    lines += [f"- {reason} ({', '.join(gpus)})" for reason, gpus in reasons.items()]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Files that TensorRT for RTX takes.")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--only", action="append", help="part of the name of a case, whose row is made anew")
    given = parser.parse_args()
    rows = _earlier(given.output) if given.only else {}
    for name in CASES:
        if not given.only or any(part in name for part in given.only):
            print(name, flush=True)
            rows[name] = checked(name)
            _write(given.output, [rows[name] for name in CASES if name in rows])


def _earlier(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "rtx_plans.json"
    return {row["name"]: row for row in json.loads(path.read_text())["rows"]} if path.exists() else {}


def _write(folder: Path, rows: list[dict[str, Any]]) -> None:
    wheels = [f"{wheel} {rows[0]['library']}" for wheel in ("tensorrt_rtx_cu13_bindings", "tensorrt_rtx_cu13_libs")]
    tools = {package: version(package) for package in ("torch", "ultralytics", "onnx", "open-clip-torch")}
    report = {"library": rows[0]["library"], "wheels": wheels, "tools": tools, "rows": rows}
    write_report(folder, "rtx_plans", report, table(report))


if __name__ == "__main__":
    main()
