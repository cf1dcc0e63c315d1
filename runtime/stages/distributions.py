"""Boxes from the distributions of their sides, for the anchors that are looked at alone.

A YOLOv8 head tells each side of a box as a distribution over distances from its anchor, in cells: its mean is the
distance. Networks usually compute it for all anchors, some ten thousand, of which some hundred pass the threshold. In
the layout "distributions" they leave it to the runtime.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, ParameterError
from ..spec import ModelSpec

ANCHOR_OFFSET = 0.5
"""Anchors are the middles of the cells of a feature map, in cells."""


def boxes_of(
    output: NDArray[np.floating], columns: NDArray[np.int64], spec: ModelSpec, input_hw: tuple[int, int] | None
) -> NDArray[np.float32]:
    """Boxes of some anchors, as the layout "raw" has them.

    Args:
        output: (4 * bins + nc + mask_dim, anchors), one image of the layout "distributions".
        columns: (n,) numbers of the anchors.
        spec: of the model.
        input_hw: (H, W) of the network's input, pixels.

    Returns:
        (n, 4) float32: cx, cy, w, h in pixels of the network's input.

    Raises:
        ModelError: the output has another number of anchors than an input of this size.
        ParameterError: input_hw is None.

    Example:
        >>> spec = ModelSpec(layout="distributions", bins=2, strides=(32,), mask_dim=1)
        >>> sure = np.full((10, 1), -100, np.float32)  # one anchor, in the middle of 32 x 32 pixels
        >>> sure[[1, 2, 5, 6]] = 100  # left 1 cell, top 0, right 1, bottom 0
        >>> boxes_of(sure, np.array([0]), spec, (32, 32)).tolist()
        [[16.0, 16.0, 64.0, 0.0]]
    """
    if input_hw is None:
        raise ParameterError('the layout "distributions" is decoded for an input size; pass input_hw')
    anchors, strides = _anchors(input_hw, spec.strides)
    if output.shape[1] != len(strides):
        raise ModelError(
            f"the network gave {output.shape[1]} anchors for an input of {input_hw[0]} x {input_hw[1]}, expected "
            f"{len(strides)} with the strides {spec.strides}; export it again"
        )
    near, far = _means(output[: 4 * spec.bins, columns].astype(np.float32), spec.bins)
    low, high = anchors[:, columns] - near, anchors[:, columns] + far
    boxes: NDArray[np.float32] = (np.concatenate(((low + high) / 2, high - low)) * strides[columns]).T
    return boxes


def as_raw(output: NDArray[np.floating], spec: ModelSpec, input_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The layout "distributions" as the layout "raw", all anchors: to compare files.

    Args:
        output: (b, 4 * bins + nc + mask_dim, anchors).
        spec: of the model.
        input_hw: (H, W) of the network's input, pixels.

    Returns:
        (b, 4 + nc + mask_dim, anchors) float32.

    Raises:
        ModelError: see `boxes_of`.

    Example:
        >>> spec = ModelSpec(layout="distributions", bins=16, strides=(8, 16, 32))
        >>> as_raw(np.zeros((1, 97, 84), np.float32), spec, (64, 64)).shape
        (1, 37, 84)
    """
    every = np.arange(output.shape[2])
    boxes = np.stack([boxes_of(image, every, spec, input_hw).T for image in output])
    return np.concatenate((boxes, output[:, 4 * spec.bins :].astype(np.float32)), axis=1)


def _means(logits: NDArray[np.float32], bins: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(4 * bins, n) → distances to left and top, and to right and bottom, in cells: (2, n) each."""
    if bins == 1:  # no distribution: the distance itself
        return logits[:2], logits[2:]
    each = logits.reshape(4, bins, -1)
    shares = np.exp(each - each.max(axis=1, keepdims=True))
    means = np.einsum("sbn,b->sn", shares, np.arange(bins, dtype=np.float32)) / shares.sum(axis=1)
    return means[:2], means[2:]


@lru_cache(maxsize=4)
def _anchors(input_hw: tuple[int, int], strides: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Anchors (2, n), x and y in cells, and the stride of each, (n,): the finest feature map first, row by row."""
    points, lengths = [], []
    for stride in strides:
        height, width = (side // stride for side in input_hw)
        y, x = np.mgrid[:height, :width] + ANCHOR_OFFSET
        points.append(np.stack([x.ravel(), y.ravel()]))
        lengths.append(np.full(height * width, stride))
    anchors, each = np.concatenate(points, axis=1).astype(np.float32), np.concatenate(lengths).astype(np.float32)
    anchors.flags.writeable = each.flags.writeable = False  # shared by all who ask for them
    return anchors, each
