"""The precision in which the layers of a plan compute, read from TensorRT's engine inspector."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ExportError

_TYPES = {
    "bf16": re.compile(r"bf16|bfloat"),
    "fp16": re.compile(r"fp16|half"),
    "int8": re.compile(r"int8"),
    "fp8": re.compile(r"fp8"),
    "int4": re.compile(r"int4"),
    "fp4": re.compile(r"fp4"),
    "fp32": re.compile(r"fp32|float"),
}
"""In this order, because "bfloat" contains "float"."""

_TYPE_KEYS = ("Format/Datatype", "Datatype", "DataType")
"""TensorRT 10 has the first; 11 has a format and one of the others."""

_SHARE = 0.5
"""Of the convolutions that have the requested type in the ONNX file, the share that must have it in the plan. TensorRT
must obey the types of a strongly typed network, but it fuses layers, and the inspector shows only the types at their
ends."""


@dataclass(frozen=True)
class LayerTypes:
    """Number of layers of each type.

    Attributes:
        convolutions: type → number, by the narrowest type among the inputs of each.
        others: the same for all other layers.

    Example:
        >>> print(LayerTypes({"fp16": 60, "fp32": 1}, {"fp32": 9}))
        convolutions: 60 fp16, 1 fp32; other layers: 9 fp32
    """

    convolutions: Mapping[str, int]
    others: Mapping[str, int]

    @property
    def deciding(self) -> Mapping[str, int]:
        """The convolutions, or the other layers where no convolution can be identified."""
        return self.convolutions or self.others

    def __str__(self) -> str:
        parts = (", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())) or "none" for kinds in self._both)
        return "convolutions: {}; other layers: {}".format(*parts)

    @property
    def _both(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        return self.convolutions, self.others


def layer_types(information: str) -> LayerTypes:
    """Count the types in the engine information of TensorRT 10 or 11.

    Args:
        information: JSON of the engine inspector.

    Raises:
        ExportError: it does not contain the types.

    Example:
        >>> ends = [{"Format/Datatype": "Half"}]
        >>> layer = {"Name": "/model.0/conv/Conv", "Inputs": ends, "Outputs": ends}
        >>> layer_types(json.dumps({"Layers": [layer]})).deciding
        Counter({'fp16': 1})
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, LookupError, TypeError) as error:
        raise ExportError(
            f"TensorRT's inspector: {error!r}; expected JSON with Layers; this version of TensorRT is not supported"
        ) from error
    convolutions: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for layer in layers:
        if not isinstance(layer, Mapping):
            continue
        kind = _narrowest(layer)
        if kind is not None:
            (convolutions if _is_convolution(layer) else others)[kind] += 1
    if not convolutions and not others:
        raise ExportError(
            f"TensorRT's inspector gives no type for {len(layers)} layers; expected a plan built with detailed layer "
            "information; this version of TensorRT is not supported"
        )
    return LayerTypes(convolutions, others)


def check_precision(types: LayerTypes, asked: str, share: float) -> None:
    """Check that a plan computes in the requested precision.

    Args:
        types: of the layers of the plan.
        asked: "fp32", "fp16" or "int8".
        share: of the convolutions in the ONNX file that compute in this precision, [0, 1].

    Raises:
        ExportError: it does not.

    Example:
        >>> check_precision(LayerTypes({"fp16": 60}, {"fp32": 9}), "fp16", share=1.0)
    """
    total = sum(types.deciding.values())
    if asked == "fp32":
        foreign = sum(n for kinds in (types.convolutions, types.others) for kind, n in kinds.items() if kind != "fp32")
        sound, expected = foreign == 0, "fp32 everywhere"
    else:
        least = max(1, round(total * share * _SHARE))
        sound, expected = types.deciding.get(asked, 0) >= least, f"at least {least} of {total} in {asked}"
    if not sound:
        raise ExportError(
            f"asked for {asked}, TensorRT built {types}; expected {expected}; nothing was written. "
            f"Does this GPU compute in {asked}? Build in another precision, or report it"
        )


def _narrowest(layer: Mapping[str, Any]) -> str | None:
    """The narrowest type among the inputs of a layer, or among its outputs if it has no inputs (a constant)."""
    for end in ("Inputs", "Outputs"):
        kinds = set(_kinds(layer.get(end) or ()))
        for kind in ("fp4", "int4", "fp8", "int8", "fp16", "bf16", "fp32"):
            if kind in kinds:
                return kind
    return None


def _kinds(tensors: Iterable[Any]) -> Iterable[str]:
    for tensor in tensors:
        if not isinstance(tensor, Mapping):
            continue
        text = " ".join(str(tensor[key]) for key in _TYPE_KEYS if key in tensor).lower()
        matching = next((kind for kind, pattern in _TYPES.items() if pattern.search(text)), None)
        if matching is not None:
            yield matching


def _is_convolution(layer: Mapping[str, Any]) -> bool:
    return any("conv" in str(layer.get(key, "")).lower() for key in ("LayerType", "Name", "Metadata"))
