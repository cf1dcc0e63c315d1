"""Calibration: histograms of tensors over photographs, and the range of values that INT8 covers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from ...runtime.engines.telemetry import without_telemetry
from ...runtime.errors import ParameterError
from ...runtime.spec import ModelSpec
from ...runtime.stages.image import load_image
from ...runtime.stages.letterbox import fit_model, letterbox
from ...runtime.system.cpu import usable_cpus
from ..errors import ExportError

with without_telemetry():
    import onnxruntime as ort

METHODS = ("minmax", "percentile", "entropy")

PERCENTILE = 99.995
"""Of the values, on each side. With 99.99 and 99.999 the masks of the demo model were worse, with 99.9 far worse."""

_BINS = 4096
_LEVELS = 128
_CANDIDATES = 64
_LEAST_SHARE, _SHARES = 0.05, 64

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often a tensor has each value.

    Attributes:
        low, high: the least value and the largest, widened to include zero.
        counts: (bins,) int64, of values in bins of equal width.

    Example:
        >>> Histogram(0.0, 2.0, np.array([3, 1])).edges.tolist()
        [0.0, 1.0, 2.0]
    """

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """(bins + 1,) float64, from `low` to `high`."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)


def network_inputs(paths: Sequence[Path], spec: ModelSpec, imgsz: int) -> Iterator[Floats]:
    """Make the network input of each photograph, as the runtime does.

    Args:
        paths: photographs.
        spec: of the network.
        imgsz: longest side of the input, pixels.

    Yields:
        (b, 3, H, W) float32 RGB in [0, 1]; where the batch is fixed, the photograph is repeated b times.

    Example:
        >>> for images in network_inputs([Path("coffee.jpg")], ModelSpec(), 640):  # doctest: +SKIP
        ...     print(images.shape)
        (1, 3, 448, 640)
    """
    for path in paths:
        pixels = load_image(path)
        blob = letterbox(pixels, fit_model((pixels.shape[0], pixels.shape[1]), spec, imgsz, True))[None]
        yield np.repeat(blob, spec.batch or 1, axis=0)


def histograms(
    model: onnx.ModelProto,
    names: Collection[str],
    inputs: Callable[[], Iterable[Floats]],
    step: Callable[[str], None] = lambda _: None,
) -> dict[str, Histogram]:
    """Make a histogram of each tensor over all inputs, which are run twice: for the ranges, then for the counts.

    The tensors of one run are in memory together: about 60 MB for the n-size network at 640 pixels, about 3 GB for the
    x-size one at 1024.

    Args:
        model: the graph.
        names: of the tensors.
        inputs: makes the network's inputs; called twice.
        step: called with a description of each step.

    Raises:
        ExportError: there is no input, or a tensor holds NaN or infinity.

    Example:
        >>> x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in "xy")
        >>> graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "graph", [x], [y])
        >>> opset = [onnx.helper.make_opsetid("", 18)]
        >>> model = onnx.helper.make_model(graph, ir_version=10, opset_imports=opset)
        >>> histogram = histograms(model, ["y"], lambda: [np.array([1, -3], np.float32)])["y"]
        >>> histogram.low, histogram.high, int(histogram.counts.sum())
        (-1.0, 3.0, 2)
    """
    source = model.graph.input[0].name
    session, wanted = session_giving(model, sorted(set(names) - {source}))

    def values() -> Iterator[tuple[str, Floats]]:
        for blob in inputs():
            tensors = session.run(wanted, {source: blob}) if wanted else []
            yield from zip([*wanted, source], [*tensors, blob], strict=True)

    ranges: dict[str, tuple[float, float]] = {}
    step("calibrating: ranges")
    for name, tensor in values():
        low, high = ranges.get(name, (np.inf, -np.inf))
        ranges[name] = min(low, float(tensor.min())), max(high, float(tensor.max()))
    _check_finite(ranges)
    counts = {name: np.zeros(_BINS, np.int64) for name in ranges}
    step("calibrating: histograms")
    for name, tensor in values():
        counts[name] += np.histogram(tensor, _BINS, _wide(ranges[name]))[0]
    return {name: Histogram(*_wide(ranges[name]), counts[name]) for name in names}


def session_giving(
    model: onnx.ModelProto, names: Sequence[str], *, as_written: bool = False
) -> tuple[ort.InferenceSession, list[str]]:
    """Open a graph with these tensors among its outputs.

    Args:
        model: the graph, which stays as it is.
        names: of the tensors.
        as_written: see `Judge.judge`.

    Returns:
        The session, and the names in the order in which it is to be asked.

    Example:
        >>> session, names = session_giving(model, ["silu"])  # doctest: +SKIP
        >>> session.run(names, {"images": images})  # doctest: +SKIP
    """
    opened = onnx.ModelProto.FromString(model.SerializeToString())
    outputs = {output.name for output in opened.graph.output}
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in outputs)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cpus()
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, list(names)


def _check_finite(ranges: dict[str, tuple[float, float]]) -> None:
    if not ranges:
        raise ExportError("no photograph to calibrate on; expected one or more")
    for name, (low, high) in ranges.items():
        if not np.isfinite((low, high)).all():
            raise ExportError(f"tensor {name} reaches from {low} to {high} on a photograph, expected finite numbers")


def _wide(limits: tuple[float, float]) -> tuple[float, float]:
    """A range that includes zero and is not empty."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    return low, max(high, low + 1e-6)


def range_of(histogram: Histogram, method: str, *, signed: bool) -> tuple[float, float]:
    """Choose the range of values that INT8 covers; values outside are clipped.

    Args:
        histogram: of the tensor.
        method: "minmax": all values; "percentile": all but 5 of 100 000 on each side; "entropy": the range in which
            128 levels keep most of the distribution's information, as in TensorRT's calibration.
        signed: the range is symmetric about zero.

    Returns:
        (lowest, highest).

    Raises:
        ParameterError: there is no such method.

    Example:
        >>> range_of(Histogram(-1.0, 3.0, np.array([2, 5, 1])), "minmax", signed=True)
        (-3.0, 3.0)
    """
    if method not in METHODS:
        raise ParameterError(f"calibration method is {method!r}, expected one of {', '.join(METHODS)}")
    low, high = histogram.low, histogram.high
    if method == "percentile":
        low, high = _percentiles(histogram)
    elif method == "entropy":
        limit = _least_divergence(histogram)
        low, high = max(low, -limit), min(high, limit)
    largest = max(-low, high)
    return (-largest, largest) if signed else (low, high)


def range_before_silu(histogram: Histogram) -> tuple[float, float]:
    """Choose the range of values of which SiLU is taken, x / (1 + exp(-x)), so that its results are off least.

    SiLU of -8 is -0.003: levels for what lies below would be wasted. Over a grid of limits, the squared error of the
    results is least, each value counted as often as it was seen.

    Args:
        histogram: of the tensor before SiLU.

    Returns:
        (lowest, highest), for unsigned values.

    Example:
        >>> low, high = range_before_silu(Histogram(-40.0, 4.0, np.full(4096, 10)))
        >>> low > -12, high > 3
        (True, True)
    """
    edges = histogram.edges
    seen = histogram.counts > 0
    values, counts = ((edges[:-1] + edges[1:]) / 2)[seen], histogram.counts[seen]
    exact = _silu(values)

    def error(low: float, high: float) -> float:
        scale = max(high - low, 1e-9) / 255
        rounded = (np.rint(values / scale).clip(np.rint(low / scale), np.rint(low / scale) + 255)) * scale
        return float((counts * (_silu(rounded) - exact) ** 2).sum())

    shares = np.geomspace(_LEAST_SHARE, 1, _SHARES).tolist()
    low = histogram.low
    for _ in range(2):
        high = min((histogram.high * share for share in shares), key=lambda limit: error(low, limit))
        low = min((histogram.low * share for share in shares), key=lambda limit: error(limit, high))
    return low, max(high, 1e-6)


def _silu(values: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = values / (1 + np.exp(-values))
    return result


def _percentiles(histogram: Histogram) -> tuple[float, float]:
    shares = np.cumsum(histogram.counts) / max(histogram.counts.sum(), 1)
    edges = histogram.edges
    top = int(np.searchsorted(shares, PERCENTILE / 100))
    bottom = int(np.searchsorted(shares, 1 - PERCENTILE / 100))
    return min(float(edges[bottom]), 0.0), max(float(edges[min(top + 1, len(edges) - 1)]), 1e-6)


def _least_divergence(histogram: Histogram) -> float:
    """The limit of |x| at which the quantized distribution is nearest to the true one (Kullback-Leibler divergence)."""
    centres = np.abs((histogram.edges[:-1] + histogram.edges[1:]) / 2)
    largest = max(-histogram.low, histogram.high)
    counts = np.histogram(centres, 2048, (0, largest), weights=histogram.counts.astype(np.float64))[0]
    counts[0] = 0  # exact zeros are quantized without loss, and would outweigh everything else
    ends = np.unique(np.linspace(_LEVELS, len(counts), _CANDIDATES).astype(int))
    divergences = [_divergence(counts, end) for end in ends.tolist()]
    return largest * float(ends[int(np.argmin(divergences))]) / len(counts)


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    true = counts[:end].copy()
    true[-1] += counts[end:].sum()
    filled = counts[:end] > 0
    level = np.arange(end) * _LEVELS // end
    sums = np.bincount(level, counts[:end], _LEVELS)
    places = np.bincount(level, filled, _LEVELS)
    quantized = np.where(filled, (sums / np.maximum(places, 1))[level], 0)
    if not true.sum() or not quantized.sum():
        return np.inf
    p, q = true / true.sum(), quantized / quantized.sum()
    counted = p > 0
    return float((p[counted] * np.log(p[counted] / np.maximum(q[counted], 1e-12))).sum())
