"""The layers of YOLOv8-seg's backbone and neck as ONNX nodes: one function for each class of layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .builder import Graph, Value
from .layer import Layer
from .records import Refused


def build(layer: Layer, value: Value, graph: Graph) -> Value:
    """Add a layer with one input.

    Args:
        layer: of a class that is known here.
        value: its input.
        graph: to which its nodes are added.

    Returns:
        Its output.

    Raises:
        Refused: its class is not known, or it has settings that are not.

    Example:
        >>> build(layer, Value("images", 3), Graph(18)).channels  # doctest: +SKIP
        16
    """
    graph.count_layer()
    function = _LAYERS.get(layer.kind)
    if function is None:
        raise Refused(f"has the layer {layer.name} of the kind {layer.kind}, expected {', '.join(known_layers())}")
    return function(layer, value, graph)


def known_layers() -> list[str]:
    """Names of the classes of layers that can be built.

    Example:
        >>> "C2f" in known_layers()
        True
    """
    return sorted([*_LAYERS, "Concat", "Segment"])


def concatenated(values: list[Value], at: str, graph: Graph) -> Value:
    """Add a Concat of channels.

    Example:
        >>> concatenated([Value("a", 3), Value("b", 5)], "model.11", Graph(18)).channels
        8
    """
    name = graph.add("Concat", [value.name for value in values], at, axis=1)
    return Value(name, sum(value.channels for value in values))


def convolution(layer: Layer, value: Value, graph: Graph, norm: Layer | None = None) -> Value:
    """Add a convolution, with batch normalisation folded in, in double precision.

    Example:
        >>> convolution(layer.child("conv"), value, graph, layer.child("bn")).channels  # doctest: +SKIP
        64
    """
    if layer.kind != "Conv2d":
        raise Refused(f"has {layer}, expected a Conv2d")
    layer.require(padding_mode="zeros", transposed=False)
    weight, group = layer.array("weight", 4), layer.whole("groups", 1)
    made = len(weight)
    if not group or weight.shape[1] * group != value.channels or made % group or not weight.size:
        raise Refused(
            f"has {layer} with weights {weight.shape} in {group} groups, its input has {value.channels} channels"
        )
    bias = _bias(layer, made)
    if norm is not None:
        factor, shift = _normalisation(norm, made)
        factors = factor[:, None, None, None]
        if graph.keeps_factors:
            graph.factors[f"{layer.name}.weight"] = (weight.astype(np.float32), factors.astype(np.float32))
        weight, bias = weight * factors, bias * factor + shift
    padding = layer.pair("padding", 0)
    inputs = [value.name, graph.weight(f"{layer.name}.weight", weight), graph.weight(f"{layer.name}.bias", bias)]
    name = graph.add(
        "Conv", inputs, layer.name, kernel_shape=weight.shape[2:], strides=_positive(layer, "stride"),
        pads=[*padding, *padding], dilations=_positive(layer, "dilation"), group=group,
    )  # fmt: skip
    return Value(name, made)


def transposed_convolution(layer: Layer, value: Value, graph: Graph) -> Value:
    """Add a transposed convolution, which enlarges the prototypes.

    Example:
        >>> transposed_convolution(proto.child("upsample"), value, graph).channels  # doctest: +SKIP
        64
    """
    if layer.kind != "ConvTranspose2d":
        raise Refused(f"has {layer}, expected a ConvTranspose2d")
    layer.require(padding_mode="zeros", groups=1)
    weight = layer.array("weight", 4)
    if len(weight) != value.channels or not weight.size:
        raise Refused(f"has {layer} with weights {weight.shape}, its input has {value.channels} channels")
    made, padding = weight.shape[1], layer.pair("padding", 0)
    inputs = [value.name, graph.weight(f"{layer.name}.weight", weight)]
    inputs.append(graph.weight(f"{layer.name}.bias", _bias(layer, made)))
    name = graph.add(
        "ConvTranspose", inputs, layer.name, kernel_shape=weight.shape[2:], strides=_positive(layer, "stride"),
        pads=[*padding, *padding], dilations=_positive(layer, "dilation"),
        output_padding=layer.pair("output_padding", 0),
    )  # fmt: skip
    return Value(name, made)


def _bias(layer: Layer, channels: int) -> NDArray[np.float64]:
    bias = layer.optional_array("bias", 1)
    if bias is None:
        return np.zeros(channels)
    if len(bias) != channels:
        raise Refused(f"has {layer} with a bias of {len(bias)} values, expected {channels}")
    return bias


def _normalisation(norm: Layer, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factor and shift of each channel, as batch normalisation applies them in use."""
    if norm.kind != "BatchNorm2d":
        raise Refused(f"has {norm}, expected a BatchNorm2d")
    mean, variance = norm.array("running_mean", 1), norm.array("running_var", 1)
    scale, shift = (norm.optional_array(name, 1) for name in ("weight", "bias"))
    scale, shift = np.ones(channels) if scale is None else scale, np.zeros(channels) if shift is None else shift
    if not len(mean) == len(variance) == len(scale) == len(shift) == channels:
        raise Refused(f"has {norm} with values for {len(mean)} channels, expected {channels}")
    spread = variance + norm.number("eps")
    if not (spread > 0).all():
        raise Refused(f"has {norm} with a variance that is not positive")
    factor = scale / np.sqrt(spread)
    return factor, shift - mean * factor


def _positive(layer: Layer, name: str) -> tuple[int, int]:
    pair = layer.pair(name, 1)
    if not all(pair):
        raise Refused(f"has {layer} with {name} {pair}, expected 1 or more")
    return pair


def _conv(layer: Layer, value: Value, graph: Graph) -> Value:
    norm = layer.child("bn") if layer.has("bn") else None  # a network that was fused before it was saved has none
    return build(layer.child("act"), convolution(layer.child("conv"), value, graph, norm), graph)


def _silu(layer: Layer, value: Value, graph: Graph) -> Value:
    at = value.name.rpartition("/")[0].removesuffix(".conv")
    gate = graph.add("Sigmoid", [value.name], at)
    return Value(graph.add("Mul", [value.name, gate], at), value.channels)


def _relu(layer: Layer, value: Value, graph: Graph) -> Value:
    return Value(graph.add("Relu", [value.name], layer.name), value.channels)


def _identity(layer: Layer, value: Value, graph: Graph) -> Value:
    return value


def _sequential(layer: Layer, value: Value, graph: Graph) -> Value:
    for child in layer.children():
        value = build(child, value, graph)
    return value


def _bottleneck(layer: Layer, value: Value, graph: Graph) -> Value:
    inner = build(layer.child("cv2"), build(layer.child("cv1"), value, graph), graph)
    return _sum(value, inner, layer, graph) if layer.flag("add") else inner


def _sum(value: Value, inner: Value, layer: Layer, graph: Graph) -> Value:
    if inner.channels != value.channels:
        raise Refused(f"has {layer} that adds {inner.channels} channels to {value.channels}")
    return Value(graph.add("Add", [value.name, inner.name], layer.name), value.channels)


def _c2f(layer: Layer, value: Value, graph: Graph) -> Value:
    both = build(layer.child("cv1"), value, graph)
    if both.channels % 2:
        raise Refused(f"has {layer} that halves {both.channels} channels")
    parts = graph.split(both, [both.channels // 2] * 2, layer.name)
    for inner in layer.child("m").children():
        parts.append(build(inner, parts[-1], graph))
    return build(layer.child("cv2"), concatenated(parts, layer.name, graph), graph)


def _sppf(layer: Layer, value: Value, graph: Graph) -> Value:
    parts = [build(layer.child("cv1"), value, graph)]
    rounds = layer.whole("n", 3)
    if rounds > 8:
        raise Refused(f"has {layer} with {rounds} rounds, expected 8 or fewer")
    for _ in range(rounds):
        parts.append(build(layer.child("m"), parts[-1], graph))
    pooled = build(layer.child("cv2"), concatenated(parts, layer.name, graph), graph)
    return _sum(value, pooled, layer, graph) if layer.flag("add", False) else pooled


def _max_pool(layer: Layer, value: Value, graph: Graph) -> Value:
    layer.require(ceil_mode=False, return_indices=False)
    padding = layer.pair("padding", 0)
    name = graph.add(
        "MaxPool", [value.name], layer.name, kernel_shape=_positive(layer, "kernel_size"),
        strides=_positive(layer, "stride"), pads=[*padding, *padding], dilations=_positive(layer, "dilation"),
    )  # fmt: skip
    return Value(name, value.channels)


def _upsample(layer: Layer, value: Value, graph: Graph) -> Value:
    layer.require(mode="nearest", size=None, align_corners=None)
    scales = np.array([1, 1, *_positive(layer, "scale_factor")], np.float32)
    inputs = [value.name, "", graph.weight(f"{layer.name}.scales", scales)]
    name = graph.add(
        "Resize", inputs, layer.name, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    return Value(name, value.channels)


_LAYERS: dict[str, Callable[[Layer, Value, Graph], Value]] = {
    "Conv": _conv,
    "DWConv": _conv,
    "Conv2d": convolution,
    "SiLU": _silu,
    "ReLU": _relu,
    "Identity": _identity,
    "Sequential": _sequential,
    "Bottleneck": _bottleneck,
    "C2f": _c2f,
    "SPPF": _sppf,
    "MaxPool2d": _max_pool,
    "Upsample": _upsample,
}
