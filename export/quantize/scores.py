"""Scores that INT8 moves up or down are moved back, by the biases of the last convolutions before the classes.

A detection is kept or dropped by its score, so a small mean error there costs detections or adds some, while an error
of boxes or masks only moves outlines. The correction is that of Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, measured on photographs. Only places where something is are counted: at the
others, which are most, scores do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from .graph import Layer
from .ranges import Floats, session_giving

_LEAST_SCORE = 0.05
"""Places with a score above it, in FP32 or in INT8, are counted."""

_LEAST_PLACES = 20
"""With fewer of them, chance would decide; then all places of the scale are left as they are."""


def score_layers(layers: Collection[Layer]) -> tuple[Layer, ...]:
    """The convolutions whose results are the logits of the classes; none where the weights have no names.

    Example:
        >>> end = Layer("model.22.cv3.0.2", "n", "model.22.cv3", "x", "y", ends_head=True, kept=True)
        >>> score_layers([end]) == (end,)
        True
    """
    return tuple(layer for layer in layers if layer.ends_head and ".cv3." in f"{layer.name}.")


def score_shifts(
    plain: onnx.ModelProto,
    quantized: onnx.ModelProto,
    layers: Collection[Layer],
    inputs: Callable[[], Iterable[Floats]],
    *,
    as_written: bool,
) -> dict[str, NDArray[np.float32]]:
    """Measure by how much INT8 lowers the logits of the classes, where something is.

    Args:
        plain: FP32, from `with_folded_weights`.
        quantized: the same network, from `with_qdq`.
        layers: of the network.
        inputs: makes the network's inputs; called twice.
        as_written: see `Judge.judge`.

    Returns:
        Name of the bias → (classes,) what to add.

    Example:
        >>> score_shifts(plain, quantized, layers, inputs, as_written=False)  # doctest: +SKIP
        {'model.22.cv3.0.2.bias': array([0.021], dtype=float32), …}
    """
    ends = score_layers(layers)
    biases = _biases(plain, ends)
    exact, rounded = (_logits(model, ends, inputs, as_written) for model in (plain, quantized))
    return {biases[layer.node]: _shift(exact[layer.result], rounded[layer.result]) for layer in ends}


def with_shifted_biases(model: onnx.ModelProto, shifts: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Copy a graph and add to biases.

    Example:
        >>> with_shifted_biases(plain, {"model.22.cv3.0.2.bias": np.float32([0.02])})  # doctest: +SKIP
    """
    result = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in result.graph.initializer:
        if tensor.name in shifts:
            moved = numpy_helper.to_array(tensor) + shifts[tensor.name]
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    return result


def _biases(model: onnx.ModelProto, ends: Collection[Layer]) -> dict[str, str]:
    """Node → its bias, which every convolution that ends a head has."""
    names = {layer.node for layer in ends}
    return {node.name: node.input[2] for node in model.graph.node if node.name in names}


def _logits(
    model: onnx.ModelProto, ends: Collection[Layer], inputs: Callable[[], Iterable[Floats]], as_written: bool
) -> dict[str, NDArray[np.float32]]:
    """Tensor → (classes, places of all photographs)."""
    session, names = session_giving(model, sorted(layer.result for layer in ends), as_written=as_written)
    collected: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for blob in inputs():
        for name, tensor in zip(names, session.run(names, {model.graph.input[0].name: blob}), strict=True):
            collected[name].append(tensor[0].reshape(tensor.shape[1], -1))
    return {name: np.concatenate(tensors, axis=1) for name, tensors in collected.items()}


def _shift(exact: NDArray[np.float32], rounded: NDArray[np.float32]) -> NDArray[np.float32]:
    least = np.log(_LEAST_SCORE / (1 - _LEAST_SCORE))
    counted = np.maximum(exact, rounded) > least
    enough = counted.sum(1) >= _LEAST_PLACES
    difference = np.where(counted, exact - rounded, 0).sum(1) / np.maximum(counted.sum(1), 1)
    return np.where(enough, difference, 0).astype(np.float32)
