"""Checkpoint → ONNX file without PyTorch; where PyTorch is installed, the file is compared with it all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.engines import open_engine
from ...runtime.engines.registry import require_engine
from ...runtime.errors import ParameterError
from ...runtime.spec import ModelSpec
from ...runtime.suppression import Suppression
from ...runtime.system.atomic import draft_of
from ...runtime.system.identity import check_outputs
from ...runtime.system.packages import version_of
from ...runtime.system.scratch import scratch_folder
from ..checkpoint.find import find_checkpoint
from ..errors import ExportError
from ..graph.finish import DEFAULT_OPSET, finished, tool_versions
from ..graph.request import FileRequest
from ..proof.alone import FileReference, run_alone
from ..proof.inputs import load_photographs
from ..proof.network import FP16, FP32, Proof, validate
from ..proof.suppression import suppress
from .network import OPSETS, SavedNetwork, open_network

COMPARED = "compared"
"""Key among the tools of a file's spec that says whether the file was compared with PyTorch."""

NOT_COMPARED = "not compared with PyTorch on this machine"

_ADVICE = "PyTorch's exporter: leave --direct out"


def export_direct(
    checkpoint: str | Path,
    output: str | Path,
    *,
    imgsz: int | tuple[int, int] | None = None,
    dynamic: bool = True,
    batch: int = 1,
    opset: int = DEFAULT_OPSET,
    half: bool = False,
    compact: bool = False,
    images: Path | None = None,
    suppression: Suppression | None = None,
    decoded: bool = True,
    step: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Export a FastSAM or YOLOv8-seg checkpoint without PyTorch, to a file with the contract of `export_onnx`.

    The graph is built from what the checkpoint says of its layers; nothing in the checkpoint is run. Where torch and
    ultralytics are installed, the file is compared with the checkpoint, as `export_onnx` does. Elsewhere it is run on
    the photographs, and an FP16 file is compared with the FP32 file; the spec in the file then says `NOT_COMPARED`.

    Args:
        checkpoint: a `.pt` file of torch 1.6 or newer, or FastSAM-s.pt or FastSAM-x.pt, which are downloaded if they
            are missing.
        output: the `.onnx` file; replaced only after the new one has passed its checks.
        imgsz, dynamic, batch, half, compact, images, suppression: see `export_onnx`.
        opset: ONNX operator set, 13 to 23.
        decoded: the graph decodes the boxes of all anchors, as other programs expect. If False, the runtime decodes
            those of the candidates: the network is faster, and only this package can read the file.
        step: called with a description of each step.

    Returns:
        What was compared; without findings where there was nothing to compare with.

    Raises:
        ExportError: the checkpoint cannot be read or has layers that are not known, or the file is not right.
        ParameterError: a setting does not fit, or `output` is the checkpoint.

    Example:
        >>> proof = export_direct("FastSAM-s.pt", "fastsam-s.onnx")  # doctest: +SKIP
        >>> proof.spec.tools["compared"]  # doctest: +SKIP
        'not compared with PyTorch on this machine'
    """
    target = Path(output)
    check_outputs([Path(checkpoint)], {"output": target})
    request = FileRequest(target, imgsz, dynamic, batch, opset, half, compact, suppression, decoded)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ParameterError(f"opset is {opset}, graphs are built without PyTorch for {OPSETS[0]} to {OPSETS[1]}")
    require_engine(".onnx")
    photographs = load_photographs(images)
    step("reading the checkpoint")
    with open_network(find_checkpoint(checkpoint)) as network:
        spec = request.spec(network, {**tool_versions("onnx"), COMPARED: _comparison()})
        if not decoded:
            spec = replace(spec, layout="distributions", bins=network.head.bins, strides=network.head.strides)
        # A folder that cannot be written to raises here, before the work.
        with draft_of(target, parents=True, error=ExportError) as draft:
            step("building the graph")
            onnx.save(_graph(network, request, spec), draft)
            proof = _proof(draft, network, request, spec, photographs, step)
            if suppression is not None:
                step("comparing NMS in the graph")
                proof = suppress(draft, proof, suppression, photographs)
    return replace(proof, path=target)


def _graph(network: SavedNetwork, request: FileRequest, spec: ModelSpec) -> onnx.ModelProto:
    size_hw = None if request.dynamic else request.size_hw(network)
    try:
        graph, factors = network.graph(
            request.opset, request.fixed_batch, size_hw, factors=request.compact, decoded=request.decoded
        )
        extra = {"license": network.license, "version": network.version}
        known = {key: text for key, text in extra.items() if text is not None}
        return finished(graph, spec, factors, simplify=False, compact=request.compact, extra=known)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{network.path.name}: its layers do not fit each other ({error!s:.200})") from error


def _proof(
    draft: Path,
    network: SavedNetwork,
    request: FileRequest,
    spec: ModelSpec,
    photographs: Sequence[NDArray[np.uint8]],
    step: Callable[[str], None],
) -> Proof:
    """Compare the file with the checkpoint in PyTorch, or check what can be checked without it."""
    limits = FP16 if request.half else FP32
    if _has_pytorch():
        step("loading PyTorch to compare")
        from ..checkpoint.load import load_checkpoint

        return validate(draft, load_checkpoint(network.path), spec, photographs, limits, step, _ADVICE)
    if not request.half:
        return run_alone(draft, spec, photographs, step)
    with scratch_folder() as folder:
        plain = folder / "fp32.onnx"
        full = replace(spec, precision="fp32")
        onnx.save(_graph(network, replace(request, half=False), full), plain)
        run_alone(plain, full, photographs, step)
        with closing(open_engine(plain)) as engine:
            return validate(draft, FileReference(plain, engine), spec, photographs, limits, step, _ADVICE)


def _has_pytorch() -> bool:
    return all(find_spec(name) is not None for name in ("torch", "ultralytics"))


def _comparison() -> str:
    if not _has_pytorch():
        return NOT_COMPARED
    return f"with PyTorch {version_of('torch')} and ultralytics {version_of('ultralytics')}"
