"""The layers of a plan, and the precision in which they compute.

They are read from the JSON of TensorRT's engine inspector, or from the log of a build, where the plan cannot be opened.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        kind, name: as the library calls them.
        inputs, outputs: as the library describes them: a type and, in some versions, "Dimensions".
        is_convolution: its type decides the precision of the plan.

    Example:
        >>> end = {"Datatype": "Half", "Dimensions": [1, 3, -1, -1]}
        >>> Layer("correlation", "conv", (end,), (end,), is_convolution=True).line.split("\\t")
        ['correlation', 'conv', 'fp16 1x3x?x?', 'fp16 1x3x?x?']
    """

    kind: str
    name: str
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    is_convolution: bool

    @property
    def line(self) -> str:
        """Kind, name, inputs and outputs, with tabs between."""
        ends = (", ".join(map(_described, end)) for end in (self.inputs, self.outputs))
        return "\t".join((self.kind, self.name, *ends))

    @property
    def narrowest(self) -> str | None:
        """The narrowest type among its inputs, or among its outputs if it has no inputs (a constant)."""
        for end in (self.inputs, self.outputs):
            kinds = set(filter(None, map(_kind, end)))
            for kind in ("fp4", "int4", "fp8", "int8", "fp16", "bf16", "fp32"):
                if kind in kinds:
                    return kind
        return None


def layers_from_inspector(information: str) -> tuple[Layer, ...]:
    """Read the engine information of TensorRT 10 or 11.

    Args:
        information: JSON of the engine inspector.

    Raises:
        ExportError: it is something else.

    Example:
        >>> ends = [{"Format/Datatype": "Half"}]
        >>> told = {"Layers": [{"Name": "/model.0/conv/Conv", "Inputs": ends, "Outputs": ends}]}
        >>> layers_from_inspector(json.dumps(told))[0].is_convolution
        True
    """
    try:
        told = json.loads(information)["Layers"]
        # Without detailed information there are only names.
        return tuple(_layer(layer, _mentions_convolution(layer)) for layer in told if isinstance(layer, Mapping))
    except (ValueError, LookupError, TypeError) as error:
        raise ExportError(
            f"TensorRT's inspector: {error!r}; expected JSON with Layers; this version of TensorRT is not supported"
        ) from error


def layers_from_log(messages: Iterable[str]) -> tuple[Layer, ...]:
    """Read what TensorRT for RTX writes into the log of a build about the layers, one line for each.

    Args:
        messages: those that begin with `LAYERS_IN_LOG`.

    Raises:
        ExportError: there is no layer in them.

    Example:
        >>> end = "[ { Name: x, Dimensions: [1,3,8,8], Datatype: Half, Format: rows }]"
        >>> line = f"Name: c, LayerType: correlation, Inputs: {end}, Constants: [], Outputs: {end}, TacticName: , "
        >>> layers_from_log(["Layers:\\n" + line + "StreamId: 0, Metadata: "])[0].line
        'correlation\\tc\\tfp16 1x3x8x8\\tfp16 1x3x8x8'
    """
    lines = (line for message in messages for line in message.splitlines())
    layers = tuple(_layer(told, _is_rtx_convolution(told)) for told in map(_parsed, lines) if told)
    if not layers:
        raise ExportError(
            "TensorRT for RTX says nothing of its layers in the log of the build; this version is not supported"
        )
    return layers


LAYERS_IN_LOG = "Layers:"
"""Beginning of the message that has the layers, at the level VERBOSE."""


def layer_types(layers: Sequence[Layer]) -> LayerTypes:
    """Count the types of layers.

    Raises:
        ExportError: there are none.

    Example:
        >>> ends = ({"Datatype": "Half"},)
        >>> layer_types([Layer("correlation", "conv", ends, ends, is_convolution=True)]).deciding
        Counter({'fp16': 1})
    """
    convolutions: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for layer in layers:
        if layer.narrowest is not None:
            (convolutions if layer.is_convolution else others)[layer.narrowest] += 1
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


def _layer(told: Mapping[str, Any], is_convolution: bool) -> Layer:
    inputs, outputs = (
        tuple(tensor for tensor in told.get(end) or () if isinstance(tensor, Mapping)) for end in ("Inputs", "Outputs")
    )
    return Layer(str(told.get("LayerType", "")), str(told.get("Name", "")), inputs, outputs, is_convolution)


def _kind(tensor: Mapping[str, Any]) -> str | None:
    text = " ".join(str(tensor[key]) for key in _TYPE_KEYS if key in tensor).lower()
    return next((kind for kind, pattern in _TYPES.items() if pattern.search(text)), None)


def _described(tensor: Mapping[str, Any]) -> str:
    """Type and shape, "?" for a side that varies; a type that is none of `_TYPES` in the library's own words."""
    kind = _kind(tensor) or " ".join(str(tensor[key]) for key in _TYPE_KEYS if key in tensor)
    sides = tensor.get("Dimensions") or ()
    return " ".join(filter(None, (kind, "x".join("?" if side == -1 else str(side) for side in sides))))


def _mentions_convolution(layer: Mapping[str, Any]) -> bool:
    return any("conv" in str(layer.get(key, "")).lower() for key in ("LayerType", "Name", "Metadata"))


def _is_rtx_convolution(layer: Mapping[str, Any]) -> bool:
    """By kind and name, as the metadata of a layer also names the convolutions before it.

    A convolution is a "correlation" there; one of 1×1 may be a matrix product, "gemm", or "Fc" where it is fused.
    """
    kind = layer["LayerType"]
    return kind in ("correlation", "deconv", "gemm") or (
        kind == "runtime_fusion" and bool(_FUSED.search(layer["Name"]))
    )


_FUSED = re.compile(r"Corr|Fc[A-Z]")
_LABELS = ("Name: ", ", LayerType: ", ", Inputs: ", ", Constants: ", ", Outputs: ", ", TacticName: ")
_TENSOR = re.compile(r"\{ Name: (.*?), Dimensions: \[([^\]]*)\].*?Datatype: (\w+)")


def _parsed(line: str) -> dict[str, Any] | None:
    """A layer as the inspector would tell it; None for a line of another kind. Brackets nest: cut at the labels."""
    if not line.startswith(_LABELS[0]) or not all(label in line for label in _LABELS):
        return None
    parts = []
    rest = line.removeprefix(_LABELS[0])
    for label in _LABELS[1:]:
        part, _, rest = rest.partition(label)
        parts.append(part)
    name, kind, inputs, _, outputs = parts
    return {"Name": name, "LayerType": kind, "Inputs": _tensors(inputs), "Outputs": _tensors(outputs)}


def _tensors(text: str) -> list[dict[str, Any]]:
    return [
        {"Name": name, "Dimensions": [int(side) for side in sides.split(",") if side.strip()], "Datatype": kind}
        for name, sides, kind in _TENSOR.findall(text)
    ]
