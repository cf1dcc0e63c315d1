"""CLIP model → folder with two ONNX files and a tokenizer that are equal to it, or no folder at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from ...runtime.clip.spec import FORMAT, read_clip_spec
from ...runtime.measure.findings import Finding
from ...runtime.system.atomic import draft_folder
from ..errors import ExportError
from ..graph.finish import DEFAULT_OPSET, without_traces
from ..graph.trace import quiet
from ..proof.inputs import load_photographs
from .fp16 import halved
from .models import DEFAULT, load_clip
from .source import ClipSource, size_in_bytes
from .validate import FP16, FP32, TEXTS, images_for, validate_clip

_FILES = ("clip.json", "image.onnx", "text.onnx", "tokenizer.json")
_LARGEST = 2_000_000_000  # bytes of one ONNX file; protobuf ends at 2 GiB
_BATCH = torch.export.Dim("batch", min=1, max=4096)


@dataclass(frozen=True)
class ClipProof:
    """What was compared and is equal.

    Attributes:
        path: the folder.
        spec: content of its clip.json.
        findings: one for each quantity.
        images, texts: how many were compared.

    Example:
        >>> proof = export_clip("ViT-B-32/openai", "clip")  # doctest: +SKIP
        >>> [finding.what for finding in proof.findings if not finding.passed]  # doctest: +SKIP
        []
    """

    path: Path
    spec: dict[str, Any]
    findings: tuple[Finding, ...]
    images: int
    texts: int


def export_clip(
    name: str = DEFAULT,
    output: str | Path = "clip",
    *,
    half: bool = False,
    images: Path | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> ClipProof:
    """Export a CLIP model and compare the files with it on photographs and texts.

    Args:
        name: ARCH/TAG or ARCH/TAG=weights of open_clip, hf:ORG/NAME of transformers, or a folder saved by either.
        output: the folder; an existing one is replaced if it is empty or contains nothing but an earlier export.
        half: weights and arithmetic in FP16 (inputs, outputs and normalisation stay in FP32).
        images: folder of photographs to compare on; None: those that the package includes.
        step: called with a description of each step.

    Raises:
        ExportError: the model cannot be loaded or exported, the files are not equal to it, or `output` is in use.

    Example:
        >>> export_clip("ViT-B-32/openai", "clip", half=True)  # doctest: +SKIP
    """
    target = Path(output)
    _check_output(target)
    step("loading the model")
    return write_clip(load_clip(name), target, half=half, images=images, step=step)


def write_clip(
    source: ClipSource,
    target: Path,
    *,
    half: bool = False,
    images: Path | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> ClipProof:
    """Export a CLIP model that has been loaded already; see `export_clip`.

    Example:
        >>> write_clip(load_clip("ViT-B-32/openai"), Path("clip"))  # doctest: +SKIP
    """
    _check_output(target)
    photographs = load_photographs(images)
    for what, tower in (("image", source.image_tower), ("text", source.text_tower)):
        if size_in_bytes(tower) > _LARGEST:
            raise ExportError(
                f"{source.name}: its {what} tower has {size_in_bytes(tower) / 1e9:.1f} GB of weights, expected at most "
                "2 for one ONNX file; export a smaller model"
            )
    with draft_folder(target, replace=True, parents=True, error=ExportError) as draft:
        step("tracing the image tower")
        onnx.save(_image_graph(source, photographs, half=half), draft / "image.onnx")
        step("tracing the text tower")
        onnx.save(_text_graph(source, half=half), draft / "text.onnx")
        source.tokenizer.file.save(str(draft / "tokenizer.json"), pretty=False)
        spec = _spec(source, draft, half=half)
        (draft / "clip.json").write_text(json.dumps(spec, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        read_clip_spec(draft)  # raises if the runtime would refuse the folder
        findings = validate_clip(draft, source, photographs, FP16 if half else FP32, step)
        _check_output(target)  # what came there since the start is not lost either
    return ClipProof(target, spec, findings, len(photographs) + 1, len(TEXTS))


def _image_graph(source: ClipSource, photographs: list[Any], *, half: bool) -> onnx.ModelProto:
    example = torch.from_numpy(images_for(source.image, photographs)[:2])
    outputs = ["features", *(["patch_features"] if source.patches is not None else [])]
    return _graph(source.image_tower, example, "images", outputs, half=half)


def _text_graph(source: ClipSource, *, half: bool) -> onnx.ModelProto:
    example = torch.from_numpy(source.tokenizer.reference(TEXTS[:2]))
    return _graph(source.text_tower, example, "tokens", ["features"], half=half)


def _graph(tower: nn.Module, example: torch.Tensor, name: str, outputs: list[str], *, half: bool) -> onnx.ModelProto:
    """The tower as a graph in which only the batch may vary."""
    import onnxslim

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused kernel has no counterpart in ONNX
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                tower.eval(),
                (example,),
                dynamo=True,
                opset_version=DEFAULT_OPSET,
                input_names=[name],
                output_names=outputs,
                dynamic_shapes=({0: _BATCH},),
                optimize=True,
                verbose=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    graph = without_traces(onnxslim.slim(program.model_proto), {tensor: {0: "batch"} for tensor in (name, *outputs)})
    if half:
        graph = halved(graph)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _spec(source: ClipSource, folder: Path, *, half: bool) -> dict[str, Any]:
    """Content of clip.json."""
    image, text = source.image, source.tokenizer
    features = onnx.load(folder / "image.onnx", load_external_data=False).graph.output[0]
    named = [name for name in _FILES if name != "clip.json"]
    return {
        "format": FORMAT,
        "name": source.name,
        "library": source.library,
        "embed_dim": features.type.tensor_type.shape.dim[1].dim_value,
        "precision": "fp16" if half else "fp32",
        "image": {
            "file": "image.onnx",
            "size": list(image.size),
            "mean": list(image.mean),
            "std": list(image.std),
            "interpolation": image.interpolation,
            "resize": image.resize,
            "patch_size": image.patch_size,
            "dense": source.patches is not None,
        },
        "text": {
            "file": "text.onnx",
            "context_length": text.context_length,
            "pad_id": text.pad_id,
            "start_id": text.start_id,
            "end_id": text.end_id,
            "lowercase": text.lowercase,
        },
        "logit_scale": source.logit_scale,
        "logit_bias": source.logit_bias,
        "probability": source.probability,
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in named},
        "tools": {tool: version(package) for tool, package in _tools(source.library).items()},
    }


def _tools(library: str) -> dict[str, str]:
    """Name in clip.json → name of the package, for every tool that shapes the files."""
    named = {"open_clip": {"open_clip": "open-clip-torch"}, "transformers": {"transformers": "transformers"}}
    plain = ("fastsam-deploy", "torch", "onnx", "onnxslim", "onnxscript", "tokenizers")
    return {**{name: name for name in plain}, **named[library]}


def _check_output(target: Path) -> None:
    """Refuse to replace anything but an empty folder or an earlier export."""
    if not target.exists():
        return
    if not target.is_dir():
        raise ExportError(f"{target}: is a file, expected the name of a folder; choose another")
    names = sorted(path.name for path in target.iterdir())
    foreign = [name for name in names if name not in _FILES]
    if names and (foreign or "clip.json" not in names):
        raise ExportError(
            f"{target}: holds {', '.join((foreign or names)[:4])}, expected an empty folder or one with the files of "
            "an earlier export and nothing else; choose another, or empty it"
        )
