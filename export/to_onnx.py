"""Checkpoint → ONNX file that is equal to it, or no file at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ..runtime.errors import ParameterError
from ..runtime.spec import ModelSpec, Suppression, check_imgsz
from ..runtime.system.atomic import draft_of
from ..runtime.system.identity import check_outputs
from .checkpoint.load import Checkpoint, load_checkpoint
from .errors import ExportError
from .graph.compact import stored_compactly
from .graph.fp16 import computed_in_fp16
from .graph.suppression import check_suppression, spec_with_suppression, with_suppression
from .graph.trace import DEFAULT_OPSET, check_opset, graph_from_network, tidied, tool_versions, with_metadata
from .proof.inputs import batches_for, load_photographs
from .proof.network import FP16, FP32, Proof, validate
from .proof.suppression import compare_suppression

_TRACED_BHW = (2, 256, 320)
"""Input of a dynamic graph while it is traced; batch, height and width differ so that none is taken for another."""


def export_onnx(
    checkpoint: str | Path,
    output: str | Path,
    *,
    imgsz: int | tuple[int, int] = 1024,
    dynamic: bool = True,
    batch: int = 1,
    opset: int = DEFAULT_OPSET,
    half: bool = False,
    compact: bool = False,
    simplify: bool = True,
    exporter: str = "dynamo",
    images: Path | None = None,
    trust: bool = False,
    suppression: Suppression | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Export a FastSAM (or YOLO-seg) checkpoint and compare the file with it on photographs.

    Args:
        checkpoint: a `.pt` file, or FastSAM-s.pt or FastSAM-x.pt, which are downloaded if they are missing.
        output: the `.onnx` file; replaced only after the new one has passed the comparison.
        imgsz: input size in pixels: (H, W), or the side of a square. For a dynamic file it is the default.
        dynamic: batch, height and width may vary.
        batch: of a file that is not dynamic.
        opset: ONNX operator set.
        half: weights and arithmetic in FP16 (decoding of boxes, input and outputs stay in FP32).
        compact: store weights in FP16 where that loses nothing, compute in FP32: half the file size.
        simplify: fold the graph with onnxslim.
        exporter: "dynamo" or "torchscript" (docs/adr/0001).
        images: folder of photographs to compare on; None: those that the package includes.
        trust: unpickle the checkpoint without restriction (it can run code).
        suppression: put NMS with these thresholds into the graph (see `with_suppression`), and compare them too.
        step: called with a description of each step.

    Raises:
        ExportError: the checkpoint cannot be read, or the file is not equal to it.
        ParameterError: a setting does not fit, or `output` is the checkpoint.

    Example:
        >>> proof = export_onnx("FastSAM-s.pt", "fastsam-s.onnx", imgsz=640)  # doctest: +SKIP
        >>> for finding in proof.findings:  # doctest: +SKIP
        ...     print(*finding.cells())
    """
    target = Path(output)
    check_outputs([Path(checkpoint)], {"output": target})
    _check(target, dynamic=dynamic, batch=batch, half=half, compact=compact)
    check_opset(opset, exporter)
    if suppression is not None:
        check_suppression(suppression, opset)
    photographs = load_photographs(images)
    step("reading the checkpoint")
    source = load_checkpoint(checkpoint, trust=trust)
    size = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    height, width = (check_imgsz(side, source.stride) for side in size)
    spec = _spec(source, (height, width), None if dynamic else batch, half=half, compact=compact)
    # A folder that cannot be written to raises here, before the work.
    with draft_of(target, parents=True, error=ExportError) as draft:
        step("tracing the network")
        example = _TRACED_BHW if dynamic else (batch, height, width)
        graph = graph_from_network(source.network, example, dynamic=dynamic, opset=opset, exporter=exporter)
        graph = _finished(graph, source, spec, half=half, compact=compact, simplify=simplify)
        onnx.save(graph, draft)
        proof = validate(draft, source, spec, photographs, FP16 if half else FP32, step)
        if suppression is not None:
            step("comparing NMS in the graph")
            proof = _suppressed(draft, proof, suppression, photographs)
    return replace(proof, path=target)


def _suppressed(draft: Path, proof: Proof, suppression: Suppression, photographs: Sequence[NDArray[np.uint8]]) -> Proof:
    """Put NMS into the file at `draft`, and compare its detections with those of NMS outside of the graph."""
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.onnx"
        raw.write_bytes(draft.read_bytes())
        graph = with_suppression(onnx.load(raw), proof.spec, suppression)
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, draft)
        finding = compare_suppression(raw, draft, suppression, batches_for(proof.spec, photographs))
    spec = spec_with_suppression(proof.spec, suppression)
    return replace(proof, spec=spec, findings=(*proof.findings, finding))


def _finished(
    graph: onnx.ModelProto, source: Checkpoint, spec: ModelSpec, *, half: bool, compact: bool, simplify: bool
) -> onnx.ModelProto:
    """The traced graph in the requested precision, with its metadata."""
    channels = (4 + spec.class_count + spec.mask_dim, spec.mask_dim)
    graph = tidied(graph, channels=channels, dynamic=spec.batch is None, simplify=simplify)
    if half:
        graph = computed_in_fp16(graph)
    elif compact:
        graph = stored_compactly(graph, source.network)
    graph = with_metadata(graph, spec, {"license": source.license} if source.license else {})
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _check(target: Path, *, dynamic: bool, batch: int, half: bool, compact: bool) -> None:
    if target.suffix != ".onnx":
        raise ParameterError(f"output is {target}, expected a name that ends in .onnx")
    if batch < 1:
        raise ParameterError(f"batch is {batch}, expected 1 or more")
    if dynamic and batch != 1:
        raise ParameterError(f"batch is {batch} in a dynamic export, which takes any; leave it out, or use --fixed")
    if half and compact:
        raise ParameterError("half and compact: FP16 arithmetic has FP16 weights already; leave compact out")


def _spec(source: Checkpoint, size_hw: tuple[int, int], batch: int | None, *, half: bool, compact: bool) -> ModelSpec:
    return ModelSpec(
        batch=batch,
        size_hw=(None, None) if batch is None else size_hw,
        imgsz=max(size_hw),
        stride=source.stride,
        class_names=source.class_names,
        mask_dim=source.mask_dim,
        precision="fp16" if half else "fp32",
        checkpoint_sha256=source.sha256,
        tools={**tool_versions(), **({"weights": "stored as fp16, computed in fp32"} if compact else {})},
    )
