"""Model files that the suite times: the demo model's (n), and s and x of random weights, in FastSAM's own shape.

Speed does not depend on what the weights are, only on their number. The files are made once into a folder and used
again as long as the libraries that made them are the same.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

from fastsam_deploy.runtime.system.atomic import rename_synced, scratch_beside
from fastsam_deploy.runtime.system.cpu import adds_bytes_in_16_bits, name_and_flags
from fastsam_deploy.runtime.system.packages import version_of

from ..photographs import ROOT

DEMO = {"checkpoint": ROOT / "models/fastsam-demo.pt", "onnx": ROOT / "models/fastsam-demo.onnx"}
KINDS = (
    *("checkpoint", "onnx", "undecoded", "int8_onnxruntime", "int8_openvino"),
    *("ultralytics_onnx", "ultralytics_openvino"),
)
"""Of the demo model only: "undecoded", which leaves the boxes to the runtime, and that file in INT8 for an engine."""
_INT8 = {
    "int8_onnxruntime": "cpu" if adds_bytes_in_16_bits(name_and_flags()[1]) else "vnni",
    "int8_openvino": "openvino",
}
"""Kind → target of `fastsam-export quantize`."""
SIZES = ("n", "s", "x")
FASTSAM_BINS = 26
"""Bins of each box side in the official FastSAM-s and FastSAM-x; stock YOLOv8-seg has 16."""


class ModelFiles:
    """Files by size of the network ("n", "s", "x") and kind (see KINDS), made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _stamp()

    def path(self, size: str, kind: str) -> Path:
        """The file, or for an OpenVINO export of ultralytics' the folder."""
        if size == "n" and kind in DEMO:
            return DEMO[kind]
        path = self._folder / _name(size, kind)
        if kind in _INT8:
            path = path.with_name(f"{path.stem}-{_quantizer()}.onnx")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made_of = "undecoded" if kind in _INT8 else "checkpoint"
            source = None if kind == "checkpoint" else self.path(size, made_of)
            print(f"making {path.name}", file=sys.stderr, flush=True)
            # In a process of its own: the parent of a measurement should be small.
            maker = multiprocessing.get_context("spawn").Process(target=_make, args=(size, kind, source, path))
            maker.start()
            maker.join()
            if not path.exists():
                sys.exit(f"{path}: could not be made; see the lines above")
        return path


def _name(size: str, kind: str) -> str:
    # Ultralytics knows an OpenVINO export by the end of the folder's name.
    return {
        "checkpoint": f"random-{size}.pt",
        "onnx": f"random-{size}.onnx",
        "undecoded": f"ours-{size}-undecoded.onnx",
        "int8_onnxruntime": f"ours-{size}-int8.onnx",
        "int8_openvino": f"ours-{size}-int8-openvino.onnx",
        "ultralytics_onnx": f"ultralytics-{size}.onnx",
        "ultralytics_openvino": f"ultralytics-{size}_openvino_model",
    }[kind]


def _stamp() -> str:
    """A name for what made the files: libraries, the demo checkpoint and this module."""
    parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (DEMO["checkpoint"], Path(__file__))]
    for package in ("fastsam-deploy", "torch", "ultralytics", "onnx", "openvino"):
        parts.append(f"{package} {version_of(package)}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _quantizer() -> str:
    """A name for the code that makes INT8 files."""
    sources = sorted((ROOT / "export/quantize").glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:8]


def _make(size: str, kind: str, source: Path | None, target: Path) -> None:
    """Under another name first: a file that is there is whole."""
    os.environ["YOLO_AUTOINSTALL"] = "false"
    with scratch_beside(target) as folder:
        draft = folder / target.name
        if source is None:
            _save_random(size, draft)
        elif kind == "onnx":
            _export(source, draft)
        elif kind == "undecoded":
            _export_undecoded(source, draft)
        elif kind in _INT8:
            _quantize(source, draft, kind)
        else:
            _export_with_ultralytics(source, "openvino" if kind.endswith("openvino") else "onnx", draft)
        rename_synced(draft, target)


def _save_random(size: str, path: Path) -> None:
    """A checkpoint as ultralytics saves it, whose outputs vary like those of a trained one."""
    import torch
    from torch import nn
    from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

    torch.manual_seed(0)
    config = {**yaml_model_load(f"yolov8{size}-seg.yaml"), "reg_max": FASTSAM_BINS}
    network = SegmentationModel(config, nc=1, verbose=False)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # one run takes over the statistics, so that no layer fades out or blows up
        nn.init.uniform_(norm.weight, 0.3, 0.6)
        nn.init.uniform_(norm.bias, 0.5, 1.5)
    with torch.no_grad():
        network.train()(torch.rand(2, 3, 128, 160))
    head = network.model[-1]
    for box, score in zip(head.cv2, head.cv3, strict=True):
        box[-1].bias.data.copy_(torch.linspace(0, 3, head.reg_max).repeat(4))
        nn.init.normal_(score[-1].weight, std=0.3)  # scores on both sides of the threshold
        score[-1].bias.data.zero_()
    network.names = {0: "object"}
    network.eval().requires_grad_(False).half()
    torch.save({"epoch": -1, "model": network, "ema": None, "train_args": {"imgsz": 1024, "task": "segment"}}, path)


def _export(checkpoint: Path, path: Path) -> None:
    """The graph that `fastsam-export onnx` writes, sizes open.

    Without its proof on photographs, for which the masks of random weights are too ragged: what the suite times has
    its outputs compared with PyTorch's first.
    """
    import onnx

    from fastsam_deploy.export.checkpoint.load import load_checkpoint
    from fastsam_deploy.export.graph.finish import DEFAULT_OPSET, finished, tool_versions
    from fastsam_deploy.export.graph.trace import graph_from_network
    from fastsam_deploy.runtime.spec import ModelSpec

    source = load_checkpoint(checkpoint)
    spec = ModelSpec(
        batch=None,
        size_hw=(None, None),
        imgsz=1024,
        stride=source.stride,
        class_names=source.class_names,
        mask_dim=source.mask_dim,
        precision="fp32",
        checkpoint_sha256=source.sha256,
        tools=tool_versions("torch", "ultralytics", "onnx", "onnxslim", "onnxscript"),
    )
    graph = graph_from_network(source.network, (2, 256, 320), dynamic=True, opset=DEFAULT_OPSET, exporter="dynamo")
    onnx.save(finished(graph, spec, {}, simplify=True), path)


def _export_undecoded(checkpoint: Path, path: Path) -> None:
    from fastsam_deploy.export.direct.to_onnx import export_direct

    export_direct(checkpoint, path, decoded=False)


def _quantize(model: Path, path: Path, kind: str) -> None:
    """For this processor, as `fastsam-export quantize` does it. What INT8 costs in masks is another part's question: so
    few photographs serve for the ranges and for the comparison."""
    from fastsam_deploy.export.quantize.to_int8 import quantize_model

    quantize_model(model, path, ROOT / "examples/images", target=_INT8[kind])


def _export_with_ultralytics(checkpoint: Path, form: str, path: Path) -> None:
    """With its own exporter, sizes open, as one would for images of many shapes."""
    import ultralytics

    copy = path.parent / "ultralytics.pt"  # it writes beside the checkpoint
    shutil.copyfile(checkpoint, copy)
    made = ultralytics.YOLO(str(copy), task="segment").export(format=form, dynamic=True, imgsz=1024, verbose=False)
    Path(made).replace(path)
