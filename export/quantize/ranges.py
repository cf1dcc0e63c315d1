"""What range of values a tensor takes: histograms over photographs, and the range that INT8 shall cover."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from ...runtime.errors import ParameterError
from ...runtime.spec import ModelSpec
from ...runtime.stages.image import load_image
from ...runtime.stages.letterbox import fit_model, letterbox
from ...runtime.system.cpu import usable_cpus
from ..errors import ExportError

METHODS = ("minmax", "percentile", "entropy")

PERCENTILE = 99.995
"""Of the values, on each side. With 99.99 and 99.999 the masks of the demo model were worse, with 99.9 far worse."""

_BINS = 4096
_LEVELS = 128
_CANDIDATES = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Histogram:
    """How often a tensor took which value: `counts` in bins of equal width between `low` and `high`."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """(bins + 1,)"""
        return np.linspace(self.low, self.high, len(self.counts) + 1)


def network_inputs(paths: Sequence[Path], spec: ModelSpec, imgsz: int) -> Iterator[Floats]:
    """Each photograph as the runtime would feed it, (b, 3, H, W); a fixed batch holds it b times."""
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
    """Histogram of each tensor of a graph over all inputs, which are run twice: for the range, then for the counts.

    The tensors of one run are in memory at once: of the n-size network at 640 about 60 MB, of the x-size one at 1024
    about 3 GB.

    Args:
        inputs: makes the network's inputs, each time anew.

    Raises:
        ExportError: there is no input, or a tensor holds NaN or infinity.
    """
    source = model.graph.input[0].name
    session, wanted = _session_giving(model, sorted(set(names) - {source}))

    def values() -> Iterator[tuple[str, Floats]]:
        for blob in inputs():
            found = session.run(wanted, {source: blob}) if wanted else []
            yield from zip([*wanted, source], [*found, blob], strict=True)

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


def _session_giving(model: onnx.ModelProto, names: Sequence[str]) -> tuple[ort.InferenceSession, list[str]]:
    """A session of the graph with these tensors among its outputs."""
    opened = onnx.ModelProto.FromString(model.SerializeToString())
    there = {output.name for output in opened.graph.output}
    opened.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in there)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cpus()
    session = ort.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, list(names)


def _check_finite(ranges: dict[str, tuple[float, float]]) -> None:
    if not ranges:
        raise ExportError("no photograph to calibrate on; expected one or more")
    for name, (low, high) in ranges.items():
        if not np.isfinite((low, high)).all():
            raise ExportError(f"tensor {name} reaches from {low} to {high} on a photograph, expected finite numbers")


def _wide(limits: tuple[float, float]) -> tuple[float, float]:
    """A range with zero in it, and never empty."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    return low, max(high, low + 1e-6)


def range_of(histogram: Histogram, method: str, *, signed: bool) -> tuple[float, float]:
    """The values that INT8 shall cover; what lies outside is cut off.

    Args:
        method: "minmax", all; "percentile", all but 5 of 100 000 on each side; "entropy", the range in which the
            128 levels say most of the distribution, as in TensorRT's calibration.
        signed: the range is symmetric round zero.

    Raises:
        ParameterError: no such method.
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


def _percentiles(histogram: Histogram) -> tuple[float, float]:
    shares = np.cumsum(histogram.counts) / max(histogram.counts.sum(), 1)
    edges = histogram.edges
    top = int(np.searchsorted(shares, PERCENTILE / 100))
    bottom = int(np.searchsorted(shares, 1 - PERCENTILE / 100))
    return min(float(edges[bottom]), 0.0), max(float(edges[min(top + 1, len(edges) - 1)]), 1e-6)


def _least_divergence(histogram: Histogram) -> float:
    """The limit of |x| at which the rounded distribution is nearest to the true one (Kullback-Leibler)."""
    centres = np.abs((histogram.edges[:-1] + histogram.edges[1:]) / 2)
    largest = max(-histogram.low, histogram.high)
    counts = np.histogram(centres, 2048, (0, largest), weights=histogram.counts.astype(np.float64))[0]
    counts[0] = 0  # exact zeros are rounded without a loss, and would hide everything else
    ends = np.unique(np.linspace(_LEVELS, len(counts), _CANDIDATES).astype(int))
    divergences = [_divergence(counts, end) for end in ends.tolist()]
    return largest * float(ends[int(np.argmin(divergences))]) / len(counts)


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    true = counts[:end].copy()
    true[-1] += counts[end:].sum()
    there = counts[:end] > 0
    level = np.arange(end) * _LEVELS // end
    sums = np.bincount(level, counts[:end], _LEVELS)
    places = np.bincount(level, there, _LEVELS)
    rounded = np.where(there, (sums / np.maximum(places, 1))[level], 0)
    if not true.sum() or not rounded.sum():
        return np.inf
    p, q = true / true.sum(), rounded / rounded.sum()
    counted = p > 0
    return float((p[counted] * np.log(p[counted] / np.maximum(q[counted], 1e-12))).sum())
