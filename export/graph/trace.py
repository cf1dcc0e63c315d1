"""Network → ONNX graph with the names, axes and metadata that the runtime expects. Nothing is written here."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

import onnx
import torch
from torch import nn

from ...runtime.errors import ParameterError
from ...runtime.spec import METADATA_KEY, ModelSpec

DEFAULT_OPSET = 18
"""The oldest that the exporter based on torch.export writes without conversion. ONNX Runtime's CUDA provider has all of
its kernels."""

_OPSETS = {"dynamo": (18, 23), "torchscript": (11, 20)}
_NEWEST_IR = 10  # what ONNX Runtime 1.18 reads
_AXES = {
    "images": {0: "batch", 2: "height", 3: "width"},
    "output0": {0: "batch", 2: "anchors"},
    "output1": {0: "batch", 2: "mask_height", 3: "mask_width"},
}


def check_opset(opset: int, exporter: str) -> None:
    """Check that the exporter is known and writes this operator set.

    Raises:
        ParameterError: it does not.

    Example:
        >>> check_opset(18, "dynamo")
        >>> check_opset(12, "dynamo")
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ParameterError: opset is 12, the exporter dynamo writes 18 to 23; use one of \
those or the exporter torchscript
    """
    if exporter not in _OPSETS:
        raise ParameterError(f"exporter is {exporter!r}, expected one of {', '.join(_OPSETS)}")
    low, high = _OPSETS[exporter]
    if not low <= opset <= high:
        other = " or the exporter torchscript" if exporter == "dynamo" and opset < low else ""
        raise ParameterError(
            f"opset is {opset}, the exporter {exporter} writes {low} to {high}; use one of those{other}"
        )


def graph_from_network(
    network: nn.Module, example_bhw: tuple[int, int, int], *, dynamic: bool, opset: int, exporter: str
) -> onnx.ModelProto:
    """Fuse the network and trace it to a graph: `images` → `output0`, `output1`, all FP32.

    Args:
        network: as in a `Checkpoint`; it is copied, not changed.
        example_bhw: batch, height and width in pixels to trace with; without `dynamic`, the only input shape that the
            graph takes.
        dynamic: batch, height and width may vary.
        opset: of the graph (see `check_opset`).
        exporter: "dynamo" (torch.export) or "torchscript".

    Example:
        >>> network = load_checkpoint("FastSAM-s.pt").network  # doctest: +SKIP
        >>> graph_from_network(
        ...     network, (2, 256, 320), dynamic=True, opset=18, exporter="dynamo"
        ... )  # doctest: +SKIP
    """
    ready = _fused(network, dynamic=dynamic)
    batch, height, width = example_bhw
    images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    with quiet(), torch.no_grad():
        ready(images)  # the head makes its anchors in its first run
        write = _by_dynamo if exporter == "dynamo" else _by_torchscript
        return write(ready, images, dynamic, opset)


def tidied(model: onnx.ModelProto, *, channels: tuple[int, int], dynamic: bool, simplify: bool) -> onnx.ModelProto:
    """Clean up a traced graph: name its axes and remove what describes the machine that made it.

    Args:
        model: changed in place where `simplify` is False.
        channels: lengths of the second axis of output0 and of output1, which the exporters do not always know.
        dynamic: batch, height and width may vary.
        simplify: fold the graph with onnxslim.

    Example:
        >>> ends = [
        ...     onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, None, 8])
        ...     for name in ("output0", "output1")
        ... ]
        >>> model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], ends))
        >>> model = tidied(model, channels=(37, 32), dynamic=False, simplify=False)
        >>> [tensor.type.tensor_type.shape.dim[1].dim_value for tensor in model.graph.output]
        [37, 32]
    """
    if simplify:
        import onnxslim

        model = onnxslim.slim(model)
    model = without_traces(model, _AXES if dynamic else {})
    for tensor, count in zip(model.graph.output, channels, strict=True):
        tensor.type.tensor_type.shape.dim[1].dim_value = count
    return model


def without_traces(model: onnx.ModelProto, axes: Mapping[str, Mapping[int, str]]) -> onnx.ModelProto:
    """Remove what the exporter writes about itself and the machine, and name the axes that vary.

    Args:
        model: changed in place and returned.
        axes: input or output → axis → name.

    Example:
        >>> model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], []), doc_string="made on my laptop")
        >>> without_traces(model, {}).doc_string
        ''
    """
    graph = model.graph
    # Source paths and stack traces of the exporter, and shapes whose names would no longer match.
    model.doc_string = graph.doc_string = ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for i, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
    for tensor in (*graph.input, *graph.output):
        del tensor.metadata_props[:]
        for axis, name in axes.get(tensor.name, {}).items():
            tensor.type.tensor_type.shape.dim[axis].dim_param = name
    model.ir_version = min(model.ir_version, _NEWEST_IR)
    return model


def with_metadata(model: onnx.ModelProto, spec: ModelSpec, extra: Mapping[str, str]) -> onnx.ModelProto:
    """Write the spec for the runtime, and the keys with which ultralytics opens the file.

    Args:
        model: changed in place and returned.
        spec: of the model.
        extra: further keys.

    Example:
        >>> model = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], []))
        >>> entries = {entry.key: entry.value for entry in with_metadata(model, ModelSpec(), {}).metadata_props}
        >>> entries["task"], entries["imgsz"]
        ('segment', '[1024, 1024]')
    """
    height, width = spec.fixed_hw or (spec.imgsz, spec.imgsz)
    batch = spec.batch or 1
    arguments = {"batch": batch, "half": False, "dynamic": spec.batch is None, "simplify": True, "nms": False}
    entries = {
        METADATA_KEY: spec.to_json(),
        "description": "FastSAM-style segmentation network, exported by fastsam-deploy",
        "version": version("ultralytics"),
        "task": "segment",
        "stride": str(spec.stride),
        "batch": str(batch),
        "imgsz": str([height, width]),
        "names": str(dict(enumerate(spec.class_names))),
        "args": str(arguments),
        "channels": "3",
        "end2end": "False",
        **extra,
    }
    onnx.helper.set_model_props(model, entries)
    return model


def tool_versions() -> dict[str, str]:
    """Name → version of every tool that shapes the file.

    Example:
        >>> sorted(tool_versions())
        ['fastsam-deploy', 'onnx', 'onnxscript', 'onnxslim', 'torch', 'ultralytics']
    """
    names = ("fastsam-deploy", "torch", "ultralytics", "onnx", "onnxslim", "onnxscript")
    return {name: version(name) for name in names}


def _fused(network: nn.Module, *, dynamic: bool) -> nn.Module:
    """A copy with batch normalisation folded into the convolutions and the head in its export mode."""
    fused = copy.deepcopy(network).eval()
    fused.fuse(verbose=False)
    head = fused.model[-1]
    head.export, head.format, head.dynamic = True, "onnx", dynamic
    head.shape = None  # anchors that the copied network made are of another size
    return fused


def _by_dynamo(network: nn.Module, images: torch.Tensor, dynamic: bool, opset: int) -> onnx.ModelProto:
    any_size = torch.export.Dim.DYNAMIC
    axes = ({0: torch.export.Dim("batch", min=1, max=4096), 2: any_size, 3: any_size},)
    program = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        opset_version=opset,
        input_names=["images"],
        output_names=["output0", "output1"],
        dynamic_shapes=axes if dynamic else None,
        optimize=True,
        verbose=False,
    )
    return program.model_proto


def _by_torchscript(network: nn.Module, images: torch.Tensor, dynamic: bool, opset: int) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (images,),
        buffer,
        dynamo=False,
        opset_version=opset,
        input_names=["images"],
        output_names=["output0", "output1"],
        dynamic_axes=_AXES if dynamic else None,
    )
    return onnx.load_from_string(buffer.getvalue())


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters, which warn about internals that no user of this package can change.

    Example:
        >>> with quiet():
        ...     logging.getLogger("torch.onnx").warning("an internal matter")
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
