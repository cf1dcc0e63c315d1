"""Where the time of an INT8 network goes on a processor: python -m benchmarks.int8_operators FOLDER

The demo checkpoint is exported without PyTorch, with decoded and with undecoded boxes, and quantized in every way for
processors; "convolutions alone" leaves all between two convolutions in FP32, as files were made before. All run in turn
in one process; a row has the least and the median on the clock, and the time in each operator from ONNX Runtime's
profiler. Masks are compared with those of the FP32 file, on photographs that the calibration did not see.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from fastsam_deploy.export.direct.to_onnx import export_direct
from fastsam_deploy.export.quantize.graph import layers_of, with_folded_weights
from fastsam_deploy.export.quantize.integers import with_rounding
from fastsam_deploy.export.quantize.judge import QuantizationLimits
from fastsam_deploy.export.quantize.placement import Placement
from fastsam_deploy.export.quantize.ranges import histograms, network_inputs, range_of
from fastsam_deploy.export.quantize.to_int8 import quantize_model
from fastsam_deploy.runtime import EngineSettings, FastSAM, load_image
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.measure.fidelity import fidelity
from fastsam_deploy.runtime.spec import METADATA_KEY
from fastsam_deploy.runtime.stages.letterbox import fit, letterbox
from fastsam_deploy.runtime.system.cpu import name_and_flags

from .networks import network_ms
from .photographs import RESULTS, ROOT, write_report
from .suite.machine import environment

SIZE_HW = (768, 1024)
ONNXRUNTIME = {"engine": "onnxruntime"}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "ONNX Runtime FP32, decoded": ("decoded", ONNXRUNTIME),
    "ONNX Runtime FP32": ("undecoded", ONNXRUNTIME),
    "ONNX Runtime INT8, convolutions alone": ("convolutions", ONNXRUNTIME),
    "ONNX Runtime INT8, cpu": ("cpu", ONNXRUNTIME),
    "ONNX Runtime INT8, vnni": ("vnni", ONNXRUNTIME),
    "OpenVINO FP32": ("undecoded", {"engine": "openvino", "precision": "fp32"}),
    "OpenVINO BF16, decoded": ("decoded", {"engine": "openvino", "precision": "bf16"}),
    "OpenVINO BF16": ("undecoded", {"engine": "openvino", "precision": "bf16"}),
    "OpenVINO mixed": ("undecoded", {"engine": "openvino", "precision": "mixed"}),
    "OpenVINO INT8, openvino": ("openvino", {"engine": "openvino", "precision": "fp32"}),
}
"""Name → file, and how it is opened. The first is what others are compared with in time, the second in masks."""


BF16 = frozenset({"amx_bf16", "avx512_bf16"})


def ways() -> dict[str, tuple[str, dict[str, Any]]]:
    """Those that this processor can run."""
    able = bool(name_and_flags()[1] & BF16)
    return {name: way for name, way in WAYS.items() if able or way[1].get("precision") not in ("bf16", "mixed")}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="photographs to calibrate and to compare on")
    parser.add_argument("--files", type=Path, required=True, help="folder for the models; what is in it is used again")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "models/fastsam-demo.pt")
    parser.add_argument("--calibrate", type=int, default=16)
    parser.add_argument("--compare", type=int, default=24)
    parser.add_argument("--imgsz", type=int, nargs="+", default=[640, 1024])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    paths = sorted(given.folder.rglob("*.jpg"))
    seen = paths[:: max(len(paths) // given.calibrate, 1)][: given.calibrate]
    unseen = [path for path in paths if path not in seen]
    compared = unseen[:: max(len(unseen) // given.compare, 1)][: given.compare]
    files = make_files(given.checkpoint, given.files, seen)
    masks = {imgsz: compare(files, compared, imgsz, given.threads) for imgsz in given.imgsz}
    pixels = load_image(compared[0])
    images = letterbox(pixels, fit((pixels.shape[0], pixels.shape[1]), SIZE_HW))[None]
    times = measure(files, images, given.rounds, given.threads)
    rows = []
    for name, (file, settings) in ways().items():
        row = {"name": name, **times[name], "masks": {imgsz: found.get(name) for imgsz, found in masks.items()}}
        if settings is ONNXRUNTIME:
            row["operators"] = operators(files[file], images, given.threads)
        rows.append(row)
    used = {"input": SIZE_HW, "rounds": given.rounds, "calibrated_on": len(seen), "compared_on": len(compared)}
    settings = {"checkpoint": given.checkpoint.name, "threads": given.threads, **used}
    report = {"environment": environment([given.threads], quick=True), "settings": settings, "rows": rows}
    write_report(given.output, "int8_operators", report, markdown(report))


def make_files(checkpoint: Path, folder: Path, photographs: list[Path]) -> dict[str, Path]:
    """Name of a file → the file; those that are there are used again."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {file: folder / f"{file}.onnx" for file, _ in WAYS.values()}
    for file, path in files.items():
        if path.exists():
            continue
        print(f"making {path.name}", flush=True)
        if file.endswith("decoded"):
            export_direct(checkpoint, path, imgsz=640, decoded=file == "decoded")
        elif file == "convolutions":
            onnx.save(convolutions_alone(files["undecoded"], photographs), path)
        else:
            limits, count = QuantizationLimits(0, 0), len(photographs)
            quantize_model(files["undecoded"], path, photographs, target=file, count=count, limits=limits)
    return files


def convolutions_alone(source: Path, photographs: list[Path]) -> onnx.ModelProto:
    """What convolutions read and write is rounded, and nothing else."""
    with open_engine(source) as engine:
        spec = engine.spec
    model = with_folded_weights(onnx.load(source))
    layers = [layer for layer in layers_of(model) if not layer.kept]
    tensors = {name for layer in layers for name in (layer.source, layer.result)}
    counted = histograms(model, tensors, lambda: network_inputs(photographs, spec, 640))
    ranges = {name: range_of(histogram, "percentile", signed=False) for name, histogram in counted.items()}
    nodes, groups = frozenset(layer.node for layer in layers), tuple(frozenset((name,)) for name in tensors)
    rounded = with_rounding(model, Placement(nodes, frozenset(tensors), groups), ranges, weight_bits=7)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(rounded, entries | {METADATA_KEY: replace(spec, precision="int8").to_json()})
    return rounded


def compare(files: dict[str, Path], photographs: list[Path], imgsz: int, threads: int) -> dict[str, Any]:
    """Name of a way → how near its segments are to those of the FP32 file, at a confidence of 0.25."""
    answers = {}
    for name, (file, settings) in ways().items():
        with FastSAM(files[file], conf=0.25, imgsz=imgsz, threads=threads, **settings) as model:
            answers[name] = [model.segment(path) for path in photographs]
    reference = answers["ONNX Runtime FP32"]
    measured = {name: fidelity(reference, segments) for name, segments in answers.items()}
    return {
        name: {"mean_iou": round(found.mean_iou, 4), "recall": round(found.recall(0.5), 4)}
        for name, found in measured.items()
    }


def measure(
    files: dict[str, Path], images: NDArray[np.float32], rounds: int, threads: int
) -> dict[str, dict[str, float]]:
    """Name of a way → milliseconds of the network, all in turn."""
    chosen = {
        name: (files[file], EngineSettings(threads=threads, **settings)) for name, (file, settings) in ways().items()
    }
    spent = network_ms(chosen, images, rounds)
    first = spent[next(iter(WAYS))]
    return {
        name: {
            "least_ms": round(float(spent[name].min()), 1),
            "median_ms": round(float(np.median(spent[name])), 1),
            "ratio": round(float(np.median(spent[name] / first)), 3),
        }
        for name in spent
    }


def operators(path: Path, images: NDArray[np.float32], threads: int) -> dict[str, dict[str, float]]:
    """Operator → number of nodes and least milliseconds of all of them, as ONNX Runtime runs the file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_profiling = True
    options.profile_file_prefix = str(path.with_suffix(""))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(10):
        session.run(None, {"images": images})
    profile = Path(session.end_profiling())
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in json.loads(profile.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"], event["name"]].append(event["dur"] / 1000)
    profile.unlink()
    counts, sums = Counter(kind for kind, _ in spent), Counter[str]()
    for (kind, _), each in spent.items():
        sums[kind] += min(each)  # type: ignore[assignment]
    return {kind: {"nodes": counts[kind], "ms": round(ms, 2)} for kind, ms in sums.most_common()}


def markdown(report: dict[str, Any]) -> str:
    """The tables of a report."""
    rows, sizes = report["rows"], list(report["rows"][0]["masks"])
    heads = [f"mask IoU, recall at {imgsz}" for imgsz in sizes]
    lines = [
        f"| network | least, ms | median, ms | of the first | {' | '.join(heads)} |",
        "|---" * (4 + len(heads)) + "|",
    ]
    for row in rows:
        near = [f"{row['masks'][size]['mean_iou']:.4f}, {row['masks'][size]['recall']:.3f}" for size in sizes]
        times = f"{row['least_ms']:.1f} | {row['median_ms']:.1f} | **{row['ratio']:.2f}**"
        lines.append(f"| {row['name']} | {times} | {' | '.join(near)} |")
    profiled = [row for row in rows if "operators" in row]
    kinds = sorted({kind for row in profiled for kind in row["operators"]})
    kinds.sort(key=lambda kind: -max(row["operators"].get(kind, {"ms": 0})["ms"] for row in profiled))
    lines += ["", f"| operator, ms (nodes) | {' | '.join(row['name'] for row in profiled)} |"]
    lines.append("|---" * (1 + len(profiled)) + "|")
    for kind in kinds:
        found = [row["operators"].get(kind) for row in profiled]
        if max(each["ms"] if each else 0 for each in found) >= 0.05:
            cells = [f"{each['ms']:.2f} ({each['nodes']})" if each else "" for each in found]
            lines.append(f"| {kind} | {' | '.join(cells)} |")
    env, used = report["environment"], report["settings"]
    versions = env["packages"]
    shape, flags = " × ".join(map(str, used["input"])), ", ".join(env["cpu_flags"])
    made = (
        f"{used['checkpoint']} at {shape}, {used['threads']} threads, {used['rounds']} rounds in turn. "
        f"Masks: {used['compared_on']} photographs, conf 0.25; recall is one to one, at mask IoU 0.5. "
        f"{env['cpu']} ({flags}), ONNX Runtime {versions['onnxruntime']}, OpenVINO {versions.get('openvino', 'none')}, "
        f"{env['date']}."
    )
    return "\n".join([*lines, "", made]) + "\n"


if __name__ == "__main__":
    main()
