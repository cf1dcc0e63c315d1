"""Pixels of an image as values of a network's input: resized as OpenCV does, divided by 255, one plane a colour."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from ..native.calls import write_planes, write_resized
from ..native.library import Library, library


def write_input(image: NDArray[np.uint8], planes: NDArray[np.float32]) -> None:
    """Resize an image (bilinear) to the size of the planes, and write its values / 255 to them.

    OpenCV's `resize` defines the pixels. It stretches rows and columns in whole numbers with shares of 2048; compiled
    code does the same in one pass over the image, where it has vectors for it.

    Args:
        image: (h, w, 3) uint8 RGB.
        planes: (3, H, W) float32, written; its rows may lie apart.

    Example:
        >>> planes = np.empty((3, 1, 3), np.float32)
        >>> write_input(np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8), planes)
        >>> (planes[0] * 255).round().tolist()
        [[0.0, 128.0, 255.0]]
    """
    (height, width), compiled = planes.shape[1:], library()
    if image.shape[:2] != (height, width):
        if compiled is not None and _resizes(compiled, image.shape[:2], (height, width)):
            write_resized(compiled, image, planes)
            return
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    if compiled is None:
        for plane, channel in zip(planes, cv2.split(image), strict=True):
            np.divide(channel, np.float32(255), out=plane)
    else:
        write_planes(compiled, image, planes)


def _resizes(compiled: Library, source_hw: tuple[int, int], target_hw: tuple[int, int]) -> bool:
    # Where both sides are halved OpenCV takes the mean of four pixels, which is fast.
    is_halved = source_hw == (2 * target_hw[0], 2 * target_hw[1])
    return compiled.has_resize and not is_halved and _is_as_opencv(compiled)


@functools.cache
def _is_as_opencv(compiled: Library) -> bool:
    """Whether the OpenCV here computes as ours does: a build may leave `resize` to a library with other roundings."""
    values = np.arange(53 * 37 * 3, dtype=np.uint32) * np.uint32(2654435761)  # spread over all bytes
    image = (values >> np.uint32(24)).astype(np.uint8).reshape(37, 53, 3)
    for width, height in ((71, 50), (27, 20)):
        planes = np.empty((3, height, width), np.float32)
        write_resized(compiled, image, planes)
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        if not np.array_equal(planes, np.moveaxis(resized / np.float32(255), 2, 0)):
            return False
    return True
