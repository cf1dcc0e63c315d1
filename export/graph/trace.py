"""Network → ONNX graph, traced by PyTorch. Nothing is written here."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from torch import nn

from ...runtime.errors import ParameterError
from .compact import Factors
from .finish import AXES

_OPSETS = {"dynamo": (18, 23), "torchscript": (11, 20)}


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


def folding_factors(network: nn.Module) -> Factors:
    """What the weights of a network are before fusing (see `stored_compactly`).

    Example:
        >>> folding_factors(nn.Identity())
        {}
    """
    factors = {}
    for name, layer in network.named_modules():
        conv, norm = getattr(layer, "conv", None), getattr(layer, "bn", None)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            factors[f"{name}.conv.weight"] = (conv.weight.numpy(), factor.numpy().reshape(-1, 1, 1, 1))
    return factors


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
        dynamic_axes=AXES if dynamic else None,
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
