"""Mean and covariance of what convolutions read: which errors of their weights cancel, and which add up."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper

from .graph import Layer
from .ranges import Floats, session_giving
from .weights import Moments

_POSITIONS = 4096
"""Places of the output that are looked at, over all photographs: enough for the 2304 values that the widest
convolution of the n-size network reads at each."""

_LEAST_POSITIONS = 64
_TOGETHER = 2**28
"""Values of covariances in memory at once, 1 GB. What does not fit is measured in another run over the photographs."""


def moments_of(
    model: onnx.ModelProto,
    layers: Collection[Layer],
    inputs: Callable[[], Iterable[Floats]],
    photographs: int,
) -> Iterator[tuple[Layer, Moments]]:
    """Measure what convolutions read in a network, at random places of their outputs.

    Args:
        model: FP32, from `with_folded_weights`.
        layers: those to measure; those with groups, dilations or padding that only the runtime knows are left out.
        inputs: makes the network's inputs.
        photographs: how many inputs there are.

    Yields:
        A layer and its moments, which take much memory: use them before the next. Layers that read the same follow
        each other and share them.

    Example:
        >>> for layer, moments in moments_of(plain, layers, inputs, 16):  # doctest: +SKIP
        ...     print(layer.name, moments.covariance.shape)
        model.0 (27, 27)
    """
    windows = _windows(model, layers)
    positions = max(_POSITIONS // max(photographs, 1), _LEAST_POSITIONS)
    for group in _groups(layers, windows):
        sums = {read: _Sums(read.window.size) for read in group}
        session, names = session_giving(model, sorted({read.source for read in group}))
        for i, blob in enumerate(inputs()):
            tensors = dict(zip(names, session.run(names, {model.graph.input[0].name: blob}), strict=True))
            for read in group:
                random = np.random.default_rng(i)
                sums[read].add(read.window.columns(tensors[read.source][0], positions, random))
        for read, readers in group.items():
            moments = sums.pop(read).moments()
            yield from ((layer, moments) for layer in readers)


@dataclass(frozen=True)
class _Window:
    """What a convolution reads for one value of its output."""

    size: int
    kernel_hw: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]

    def columns(self, tensor: Floats, count: int, random: np.random.Generator) -> Floats:
        """(channels, h, w) → (at most `count`, size): at random places, the values that are read there."""
        top, left, bottom, right = self.pads
        padded = np.pad(tensor, ((0, 0), (top, bottom), (left, right)))
        (height, width), (down, along) = self.kernel_hw, self.strides
        rows, columns = (padded.shape[1] - height) // down + 1, (padded.shape[2] - width) // along + 1
        places = random.choice(rows * columns, min(count, rows * columns), replace=False)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self.kernel_hw, (1, 2))
        chosen = windows[:, places // columns * down, places % columns * along]
        values: Floats = chosen.transpose(1, 0, 2, 3).reshape(len(places), -1)
        return values


@dataclass(frozen=True)
class _Read:
    """Some layers read the same, such as the first ones of the head's branches."""

    source: str
    window: _Window


class _Sums:
    """Adds values up, and their products."""

    def __init__(self, size: int) -> None:
        self._count = 0
        self._values = np.zeros(size, np.float64)
        self._products = np.zeros((size, size), np.float32)

    def add(self, columns: Floats) -> None:
        self._count += len(columns)
        self._values += columns.sum(0, dtype=np.float64)
        self._products += columns.T @ columns

    def moments(self) -> Moments:
        mean = (self._values / max(self._count, 1)).astype(np.float32)
        self._products /= np.float32(max(self._count, 1))
        self._products -= np.outer(mean, mean)
        return Moments(mean, self._products)


def _windows(model: onnx.ModelProto, layers: Collection[Layer]) -> dict[str, _Window]:
    """Name of a node → its window; those that cannot be measured are left out."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    chosen = {layer.node for layer in layers}
    made = {node.name: _window(node, shapes[node.input[1]]) for node in model.graph.node if node.name in chosen}
    return {name: window for name, window in made.items() if window is not None}


def _window(node: NodeProto, shape: tuple[int, ...]) -> _Window | None:
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    padded = given.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    if len(shape) != 4 or given.get("group", 1) != 1 or {*given.get("dilations", [1])} != {1} or not padded:
        return None
    _, channels, height, width = shape
    down, along = given.get("strides", [1, 1])
    top, left, bottom, right = given.get("pads", [0, 0, 0, 0])
    return _Window(channels * height * width, (height, width), (down, along), (top, left, bottom, right))


def _groups(layers: Collection[Layer], windows: dict[str, _Window]) -> Iterator[dict[_Read, list[Layer]]]:
    """What layers read → the layers that read it; the covariances of a group fit into memory together."""
    readers: dict[_Read, list[Layer]] = {}
    for layer in layers:
        if layer.node in windows:
            readers.setdefault(_Read(layer.source, windows[layer.node]), []).append(layer)
    group: dict[_Read, list[Layer]] = {}
    for read, its in readers.items():
        if group and sum(other.window.size**2 for other in (*group, read)) > _TOGETHER:
            yield group
            group = {}
        group[read] = its
    if group:
        yield group
