"""In which precision a plan's layers really compute, from TensorRT's engine inspector."""

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
"""In this order: "bfloat" holds "float"."""

_TYPE_KEYS = ("Format/Datatype", "Datatype", "DataType")
"""TensorRT 10 has the first; 11 has a format and one of the others."""

_SHARE = 0.5
"""Of the convolutions that have the asked type in the ONNX file, how many must have it in the plan. TensorRT must obey
the types of a strongly typed network; but it fuses layers, and only the types at their ends are told."""


@dataclass(frozen=True)
class LayerTypes:
    """How many layers there are of each type.

    Attributes:
        convolutions: by the narrowest floating or quantized type that goes in.
        others: the same of all other layers.
    """

    convolutions: Mapping[str, int]
    others: Mapping[str, int]

    @property
    def deciding(self) -> Mapping[str, int]:
        """The convolutions, or all layers where no convolution can be told from the rest."""
        return self.convolutions or self.others

    def __str__(self) -> str:
        parts = (", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items())) or "none" for kinds in self._both)
        return "convolutions: {}; other layers: {}".format(*parts)

    @property
    def _both(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        return self.convolutions, self.others


def layer_types(information: str) -> LayerTypes:
    """Read `get_engine_information(JSON)` of TensorRT 10 or 11.

    Raises:
        ExportError: it does not tell the types.
    """
    try:
        layers = json.loads(information)["Layers"]
    except (ValueError, LookupError, TypeError) as error:
        raise ExportError(
            f"TensorRT's inspector: {error!r}; expected JSON with Layers; this TensorRT is not known"
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
            f"TensorRT's inspector told no type of {len(layers)} layers; expected a plan built with detailed layer "
            "information; this TensorRT is not known"
        )
    return LayerTypes(convolutions, others)


def check_precision(found: LayerTypes, asked: str, share: float) -> None:
    """Is the plan in the precision that was asked for?

    Args:
        share: of the ONNX file's convolutions, that computes in this precision, [0, 1].

    Raises:
        ExportError: it is not.
    """
    total = sum(found.deciding.values())
    if asked == "fp32":
        foreign = sum(n for kinds in (found.convolutions, found.others) for kind, n in kinds.items() if kind != "fp32")
        sound, expected = foreign == 0, "fp32 everywhere"
    else:
        least = max(1, round(total * share * _SHARE))
        sound, expected = found.deciding.get(asked, 0) >= least, f"at least {least} of {total} in {asked}"
    if not sound:
        raise ExportError(
            f"asked for {asked}, TensorRT built {found}; expected {expected}; nothing was written. "
            f"Does this GPU compute in {asked}? Build in another precision, or report it"
        )


def _narrowest(layer: Mapping[str, Any]) -> str | None:
    """Of what goes into the layer; of what comes out where nothing does (a constant)."""
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
        found = next((kind for kind, pattern in _TYPES.items() if pattern.search(text)), None)
        if found is not None:
            yield found


def _is_convolution(layer: Mapping[str, Any]) -> bool:
    return any("conv" in str(layer.get(key, "")).lower() for key in ("LayerType", "Name", "Metadata"))
