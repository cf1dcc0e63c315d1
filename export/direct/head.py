"""The Segment head: boxes, scores and mask coefficients of every anchor, and the prototypes of the masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .builder import Graph, Value
from .layer import Layer
from .layers import build, transposed_convolution
from .records import Refused

ANCHOR_OFFSET = 0.5
"""Anchors are the middles of the cells of a feature map, in cells."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Head:
    """What the head says of itself.

    Attributes:
        layer: the head.
        class_count: number of classes.
        bins: of the distribution of a box side (reg_max).
        mask_dim: prototypes, and mask coefficients of an anchor.
        strides: pixels along one cell, for each of its feature maps.

    Example:
        >>> Head.of(layer).bins  # doctest: +SKIP
        26
    """

    layer: Layer
    class_count: int
    bins: int
    mask_dim: int
    strides: tuple[int, ...]

    @classmethod
    def of(cls, layer: Layer) -> Head:
        """Read the attributes of a head.

        Raises:
            Refused: it is another kind of head.
        """
        if layer.kind != "Segment":
            raise Refused(f"has the head {layer}, expected Segment; only segmentation networks have masks")
        if layer.has("one2one_cv2"):
            raise Refused(f"has the end-to-end head {layer}, expected one that gives raw detections")
        strides = layer.array("stride", 1)
        if not len(strides) or any(stride < 1 or stride % 1 or stride > 4096 for stride in strides):
            raise Refused(f"has {layer} with strides {strides[:8]}, expected whole numbers of pixels")
        whole = (layer.whole("nc"), layer.whole("reg_max"), layer.whole("nm"))
        if not all(whole) or layer.whole("nl") != len(strides):
            raise Refused(f"has {layer} with {whole} classes, bins and masks for {len(strides)} strides")
        return cls(layer, *whole, tuple(int(stride) for stride in strides))


def build_head(
    head: Head, features: list[Value], graph: Graph, size_hw: Size | None, *, decoded: bool = True
) -> tuple[str, str]:
    """Add the head.

    Args:
        head: what it says of itself.
        features: its inputs, as many as strides, the finest first.
        graph: to which its nodes are added.
        size_hw: of the network's input in pixels; None: it may vary.
        decoded: the layout "raw"; else "distributions".

    Returns:
        The names of the detections, (b, 4 + class_count + mask_dim, anchors) in the layout "raw",
        (b, 4 * bins + class_count + mask_dim, anchors) in "distributions", and of the prototypes
        (b, mask_dim, H / 4, W / 4).

    Raises:
        Refused: its layers do not fit each other.

    Example:
        >>> build_head(head, features, graph, None)  # doctest: +SKIP
        ('output0', 'output1')
    """
    if len(features) != len(head.strides):
        raise Refused(f"has {head.layer} with {len(features)} inputs and {len(head.strides)} strides")
    if not decoded:
        return _undecoded(head, features, graph), _prototypes(head, features[0], graph)
    sides = _every_anchor(head, "cv2", 4 * head.bins, features, graph)
    scores = _every_anchor(head, "cv3", head.class_count, features, graph)
    masks = _every_anchor(head, "cv4", head.mask_dim, features, graph)
    boxes = _boxes(head, _expectation(head, sides, graph), features, graph, size_hw)
    name = head.layer.name
    probabilities = graph.add("Sigmoid", [scores], name)
    detections = graph.add("Concat", [boxes, probabilities, masks], name, "output0", axis=1)
    return detections, _prototypes(head, features[0], graph)


def _undecoded(head: Head, features: list[Value], graph: Graph) -> str:
    """Distributions, scores and coefficients: joined on each feature map first, so that nothing is transposed."""
    sides = _branch(head, "cv2", 4 * head.bins, features, graph)
    logits = _branch(head, "cv3", head.class_count, features, graph)
    masks = _branch(head, "cv4", head.mask_dim, features, graph)
    name, maps = head.layer.name, []
    for side, logit, mask in zip(sides, logits, masks, strict=True):
        values = [side.name, graph.add("Sigmoid", [logit.name], name), mask.name]
        joined = Value(graph.add("Concat", values, name, axis=1), side.channels + logit.channels + mask.channels)
        maps.append(_flat(joined, name, graph))
    return graph.add("Concat", maps, name, "output0", axis=2)


def _every_anchor(head: Head, branch: str, channels: int, features: list[Value], graph: Graph) -> str:
    """One branch on every feature map: (b, channels, anchors)."""
    name = f"{head.layer.name}.{branch}"
    values = _branch(head, branch, channels, features, graph)
    return graph.add("Concat", [_flat(value, name, graph) for value in values], name, axis=2)


def _branch(head: Head, branch: str, channels: int, features: list[Value], graph: Graph) -> list[Value]:
    """One branch on every feature map: (b, channels, h, w) each."""
    name = f"{head.layer.name}.{branch}"
    branches = list(head.layer.child(branch).children())
    if len(branches) != len(features):
        raise Refused(f"has {len(branches)} branches in {name}, expected {len(features)}")
    values = []
    for layer, feature in zip(branches, features, strict=True):
        value = build(layer, feature, graph)
        if value.channels != channels:
            raise Refused(f"has {layer} with {value.channels} channels, expected {channels}")
        values.append(value)
    return values


def _flat(value: Value, at: str, graph: Graph) -> str:
    """(b, channels, h, w) → (b, channels, h * w)."""
    return graph.add("Reshape", [value.name, graph.integers([0, value.channels, -1], at)], at)


def _expectation(head: Head, sides: str, graph: Graph) -> str:
    """The mean of the distribution of each box side: (b, 4 * bins, anchors) → (b, 4, anchors), in cells."""
    if head.bins == 1:
        return sides
    name, bins = f"{head.layer.name}.dfl", head.bins
    means = head.layer.child("dfl").child("conv").array("weight", 4)
    if not np.array_equal(means, np.arange(bins).reshape(1, bins, 1, 1)):
        raise Refused(f"has weights in {name} that are not 0 to {bins - 1}")
    split = graph.add("Reshape", [sides, graph.integers([0, 4, bins, -1], name)], name)
    first = graph.add("Transpose", [split], name, perm=[0, 2, 1, 3])
    shares = graph.add("Softmax", [first], name, axis=1)
    mean = graph.add("Conv", [shares, graph.weight(f"{name}.conv.weight", means)], name, kernel_shape=[1, 1])
    return graph.add("Reshape", [mean, graph.integers([0, 4, -1], name)], name)


def _boxes(head: Head, sides: str, features: list[Value], graph: Graph, size_hw: Size | None) -> str:
    """Left, top, right, bottom from the anchor, in cells → centre and size in pixels: (b, 4, anchors)."""
    name = head.layer.name
    anchors, strides = _grid(head, features, graph, size_hw)
    near, far = graph.split(Value(sides, 4), [2, 2], name)
    low, high = graph.add("Sub", [anchors, near.name], name), graph.add("Add", [anchors, far.name], name)
    twice = graph.add("Add", [low, high], name)
    centre = graph.add("Div", [twice, graph.scalar(2, name)], name)
    cells = graph.add("Concat", [centre, graph.add("Sub", [high, low], name)], name, axis=1)
    return graph.add("Mul", [cells, strides], name)


def _grid(head: Head, features: list[Value], graph: Graph, size_hw: Size | None) -> tuple[str, str]:
    """Anchors (1, 2, n), x and y in cells, and the stride of each, (1, 1, n)."""
    name = head.layer.name
    if size_hw is None:
        levels = [_level(feature, stride, graph, name) for feature, stride in zip(features, head.strides, strict=True)]
        anchors = graph.add("Concat", [anchors for anchors, _ in levels], name, axis=1)
        strides = graph.add("Concat", [strides for _, strides in levels], name, axis=0)
        return (
            graph.add("Unsqueeze", [anchors, graph.integers([0], name)], name),
            graph.add("Reshape", [strides, graph.integers([1, 1, -1], name)], name),
        )
    points, lengths = [], []
    for stride in head.strides:
        height, width = (side // stride for side in size_hw)
        y, x = np.mgrid[:height, :width] + ANCHOR_OFFSET
        points.append(np.stack([x.ravel(), y.ravel()]))
        lengths.append(np.full(height * width, float(stride)))
    return (
        graph.weight(f"{name}.anchors", np.concatenate(points, axis=1)[None]),
        graph.weight(f"{name}.strides", np.concatenate(lengths)[None, None]),
    )


def _level(feature: Value, stride: int, graph: Graph, name: str) -> tuple[str, str]:
    """Anchors (2, h * w) of a feature map (b, c, h, w) of any size, and the stride of each, (h * w,)."""
    shape = graph.add("Shape", [feature.name], name)
    height, width = (graph.add("Gather", [shape, graph.integers([axis], name)], name) for axis in (2, 3))
    size = graph.add("Concat", [height, width], name, axis=0)
    flat = graph.integers([1, -1], name)
    rows = []
    for length, column in ((width, [1, -1]), (height, [-1, 1])):
        end = graph.add("Squeeze", [length, graph.integers([0], name)], name)
        count = graph.add("Cast", [end], name, to=1)
        numbers = graph.add("Range", [graph.scalar(0, name), count, graph.scalar(1, name)], name)
        middles = graph.add("Add", [numbers, graph.scalar(ANCHOR_OFFSET, name)], name)
        along = graph.add("Reshape", [middles, graph.integers(column, name)], name)
        rows.append(graph.add("Reshape", [graph.add("Expand", [along, size], name), flat], name))
    area = graph.add("Mul", [height, width], name)
    return graph.add("Concat", rows, name, axis=0), graph.add("Expand", [graph.scalar(stride, name), area], name)


def _prototypes(head: Head, feature: Value, graph: Graph) -> str:
    proto = head.layer.child("proto")
    if proto.kind != "Proto":
        raise Refused(f"has {proto}, expected Proto")
    value = build(proto.child("cv1"), feature, graph)
    value = transposed_convolution(proto.child("upsample"), value, graph)
    value = build(proto.child("cv3"), build(proto.child("cv2"), value, graph), graph)
    if value.channels != head.mask_dim:
        raise Refused(f"has {proto} with {value.channels} prototypes, expected {head.mask_dim}")
    last = graph.nodes[-1]
    last.output[0] = "output1"
    return "output1"
