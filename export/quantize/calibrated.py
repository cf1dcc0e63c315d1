"""An FP32 graph with all that photographs say about it: ranges of tensors, rounded weights, corrected scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import onnx
from onnx import numpy_helper

from ...runtime.spec import METADATA_KEY, ModelSpec
from ..graph.fp16 import rounded_like_fp16
from .enlarging import with_plain_enlargement
from .graph import (
    WEIGHT_BITS,
    Layer,
    layers_of,
    ranges_for_any_part,
    tensors_to_calibrate,
    with_folded_weights,
    with_qdq,
)
from .judge import Judge, Likeness
from .moments import moments_of
from .placement import read_by_silu
from .ranges import Floats, histograms, range_before_silu, range_of
from .scores import score_shifts, with_shifted_biases
from .weights import RoundedWeights, rounded_weights


@dataclass(frozen=True)
class Calibration:
    """What a graph is calibrated on, and for what.

    Attributes:
        inputs: makes the network's inputs from the photographs.
        photographs: how many there are.
        target: one of `TARGETS`.
        method: how ranges are chosen, see `range_of`.

    Example:
        >>> Calibration(lambda: network_inputs(paths, spec, 640), len(paths), "cpu", "percentile")  # doctest: +SKIP
    """

    inputs: Callable[[], Iterable[Floats]]
    photographs: int
    target: str
    method: str


@dataclass(frozen=True)
class Calibrated:
    """An FP32 graph and the ranges of its tensors.

    Attributes:
        plain: the graph, with weights in FP32.
        layers: the convolutions that can be quantized.
        ranges: (lowest, highest) of each tensor that is quantized.
        weights: name of a convolution → its rounded weights; empty for TensorRT, which gets them in FP32.
        calibration: what all this was made from.

    Example:
        >>> calibrate(onnx.load("fastsam.onnx"), calibration).quantized(layers)  # doctest: +SKIP
    """

    plain: onnx.ModelProto
    layers: tuple[Layer, ...]
    ranges: dict[str, tuple[float, float]]
    weights: Mapping[str, RoundedWeights]
    calibration: Calibration

    @property
    def as_written(self) -> bool:
        """See `Judge.judge`."""
        return self.calibration.target in ("tensorrt", "openvino")

    def quantized(self, layers: Collection[Layer], *, half: bool = False) -> onnx.ModelProto:
        """The graph in which these layers compute in INT8."""
        target = self.calibration.target
        return with_qdq(self.plain, layers, self.ranges, target, half=half, weights=self.weights)

    def with_corrected_scores(self, layers: Collection[Layer]) -> Calibrated:
        """The same with the biases that make up for what INT8 in these layers does to scores; see `score_shifts`."""
        if self.calibration.target == "tensorrt":
            return self
        rounded, inputs = self.quantized(layers), self.calibration.inputs
        shifts = score_shifts(self.plain, rounded, self.layers, inputs, as_written=self.as_written)
        return replace(self, plain=with_shifted_biases(self.plain, shifts))

    def finished(self, layers: Collection[Layer], spec: ModelSpec, *, half: bool) -> onnx.ModelProto:
        """The quantized graph with its metadata, checked."""
        graph = self.quantized(layers, half=half)
        entries = {entry.key: entry.value for entry in self.plain.metadata_props}
        onnx.helper.set_model_props(graph, entries | {METADATA_KEY: spec.to_json()})
        onnx.checker.check_model(graph, full_check=True)
        return graph

    def likenesses(
        self, judge: Judge, graph: onnx.ModelProto, layers: Collection[Layer], *, half: bool
    ) -> list[Likeness]:
        """Agreement of the finished graph, and of what it would be in true FP16.

        ONNX Runtime leaves much of the rounding to FP16 out, so the finished graph alone would be flattered.
        """
        variants = [graph, rounded_like_fp16(self.quantized(layers))] if half else [graph]
        return [judge.judge(variant, as_written=self.as_written) for variant in variants]


def calibrate(
    model: onnx.ModelProto, calibration: Calibration, step: Callable[[str], None] = lambda _: None
) -> Calibrated:
    """Measure what the rounding of a graph needs to know.

    Args:
        model: FP32.
        calibration: the photographs, and what for.
        step: called with a description of each step.

    Example:
        >>> calibrate(onnx.load("fastsam.onnx"), calibration).ranges["images"]  # doctest: +SKIP
        (0.0, 1.0)
    """
    target, method = calibration.target, calibration.method
    plain = with_folded_weights(model)
    if target in ("cpu", "vnni"):
        plain = with_plain_enlargement(plain)
    layers = layers_of(plain)
    counted = histograms(plain, tensors_to_calibrate(plain, layers, target), calibration.inputs, step)
    ranges = {name: range_of(histogram, method, signed=target == "tensorrt") for name, histogram in counted.items()}
    if target != "tensorrt" and method == "percentile":
        ranges |= {name: range_before_silu(counted[name]) for name in read_by_silu(plain) & {*counted}}
    weights = {} if target == "tensorrt" else _weights(plain, layers, calibration, step)
    return Calibrated(plain, layers, ranges_for_any_part(plain, layers, target, ranges), weights, calibration)


def _weights(
    plain: onnx.ModelProto, layers: Collection[Layer], calibration: Calibration, step: Callable[[str], None]
) -> dict[str, RoundedWeights]:
    """Node → its rounded weights; without the ends of the head, which stay in floating point."""
    inner = [layer for layer in layers if not layer.ends_head]
    names = {node.name: node.input[1] for node in plain.graph.node if node.op_type == "Conv"}
    values = {tensor.name: tensor for tensor in plain.graph.initializer}
    most = 2 ** (WEIGHT_BITS[calibration.target] - 1) - 1
    rounded = {}
    step("rounding weights: what each convolution reads")
    for layer, moments in moments_of(plain, inner, calibration.inputs, calibration.photographs):
        step(f"rounding weights: {layer.name}")
        rounded[layer.node] = rounded_weights(numpy_helper.to_array(values[names[layer.node]]), moments, most)
    return rounded
