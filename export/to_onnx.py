"""Checkpoint → ONNX file that is equal to it, or no file at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx

from ..runtime.engines.registry import require_engine
from ..runtime.suppression import Suppression
from ..runtime.system.atomic import draft_of
from ..runtime.system.identity import check_outputs
from .checkpoint.load import load_checkpoint
from .errors import ExportError
from .graph.finish import DEFAULT_OPSET, finished, tool_versions
from .graph.request import FileRequest
from .graph.trace import check_opset, folding_factors, graph_from_network
from .proof.inputs import load_photographs
from .proof.network import FP16, FP32, Proof, validate
from .proof.suppression import suppress

_TRACED_BHW = (2, 256, 320)
"""Input of a dynamic graph while it is traced; batch, height and width differ so that none is taken for another."""


def export_onnx(
    checkpoint: str | Path,
    output: str | Path,
    *,
    imgsz: int | tuple[int, int] | None = None,
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
        imgsz: input size in pixels: (H, W), or the side of a square. For a dynamic file it is the default. None: the
            size that the network was trained at, or 1024 if the checkpoint does not say it.
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
    request = FileRequest(target, imgsz, dynamic, batch, opset, half, compact, suppression)
    check_opset(opset, exporter)
    require_engine(".onnx")
    photographs = load_photographs(images)
    step("reading the checkpoint")
    source = load_checkpoint(checkpoint, trust=trust)
    height, width = request.size_hw(source)
    spec = request.spec(source, tool_versions("torch", "ultralytics", "onnx", "onnxslim", "onnxscript"))
    # A folder that cannot be written to raises here, before the work.
    with draft_of(target, parents=True, error=ExportError) as draft:
        step("tracing the network")
        example = _TRACED_BHW if dynamic else (batch, height, width)
        graph = graph_from_network(source.network, example, dynamic=dynamic, opset=opset, exporter=exporter)
        factors = folding_factors(source.network) if compact else {}
        extra = {"license": source.license} if source.license else {}
        graph = finished(graph, spec, factors, simplify=simplify, compact=compact, extra=extra)
        onnx.save(graph, draft)
        proof = validate(draft, source, spec, photographs, FP16 if half else FP32, step)
        if suppression is not None:
            step("comparing NMS in the graph")
            proof = suppress(draft, proof, suppression, photographs)
    return replace(proof, path=target)
