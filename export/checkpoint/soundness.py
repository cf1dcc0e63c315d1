"""What a restored network must be before any of it is called: a tree of layers, with tensors that are in the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ExportError

_MOST_LAYERS = 100_000


def check_soundness(network: nn.Module, path: Path) -> None:
    """Check the layers and tensors of a network that a stranger's file has restored.

    Layers are filled with attributes from the file, so nothing here calls a method of a layer.

    Raises:
        ExportError: a layer contains itself, layers are shared so that calling each takes forever, or a tensor has more
            elements than the file holds, or is of a kind that no checkpoint needs.

    Example:
        >>> check_soundness(nn.Sequential(nn.ReLU()), Path("weights.pt"))
        >>> layer = nn.Sequential()
        >>> layer.add_module("inner", layer)
        >>> check_soundness(layer, Path("weights.pt"))
        Traceback (most recent call last):
        ...
        fastsam_deploy.export.errors.ExportError: weights.pt: its layers form a circle or are nested too deeply, \
expected a network; the file is damaged
    """
    try:
        count = _calls(network, {})
    except RecursionError:
        raise ExportError(
            f"{path.name}: its layers form a circle or are nested too deeply, expected a network; the file is damaged"
        ) from None
    if count > _MOST_LAYERS:
        raise ExportError(
            f"{path.name}: its layers are shared in {min(count, 10**18):.3g} ways, expected at most "
            f"{_MOST_LAYERS}; the file is damaged"
        )
    for layer in _layers(network, set()):
        for name, tensor in _tensors(layer):
            fault = _fault(tensor)
            if fault is not None:
                raise ExportError(f"{path.name}: {type(layer).__name__}.{name!s:.40} {fault}; the file is damaged")


def _children(layer: nn.Module) -> list[nn.Module]:
    parts = vars(layer).get("_modules")
    return [part for part in parts.values() if isinstance(part, nn.Module)] if isinstance(parts, dict) else []


def _calls(layer: nn.Module, known: dict[int, int]) -> int:
    """How many layers a walk visits that does not remember where it was, as those of torch are."""
    if id(layer) not in known:
        known[id(layer)] = 1 + sum(_calls(part, known) for part in _children(layer))
    return known[id(layer)]


def _layers(layer: nn.Module, seen: set[int]) -> Iterator[nn.Module]:
    if id(layer) not in seen:
        seen.add(id(layer))
        yield layer
        for part in _children(layer):
            yield from _layers(part, seen)


def _tensors(layer: nn.Module) -> Iterator[tuple[Any, torch.Tensor]]:
    attributes = vars(layer)
    for group in (attributes.get("_parameters"), attributes.get("_buffers"), attributes):
        if isinstance(group, dict):
            yield from ((name, value) for name, value in group.items() if isinstance(value, torch.Tensor))


def _fault(tensor: torch.Tensor) -> str | None:
    if type(tensor) not in (torch.Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized:
        return "is not an ordinary tensor, expected numbers"
    if tensor.device.type != "cpu":
        return f"is on the device {tensor.device.type!r}, expected 'cpu'"
    held = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > held:
        return f"has {tensor.numel()} elements, of which the file holds {held}"
    return None
