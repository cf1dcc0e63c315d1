"""Photographs in a network's input are those that OpenCV resizes, to the last bit, whatever computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.runtime import load_image
from fastsam_deploy.runtime.native.library import VARIABLE, library
from fastsam_deploy.runtime.stages import resize


def _with_opencv(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.moveaxis(resized / np.float32(255), 2, 0)


def _with_ours(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    planes = np.empty((3, height, width), np.float32)
    resize.write_input(image, planes)
    return planes


@pytest.mark.parametrize("code", ["compiled", "NumPy"])
@pytest.mark.parametrize("source_wh", [(451, 300), (931, 698), (2000, 1500), (3001, 2003), (2048, 1365), (640, 2)])
def test_a_photograph_is_resized_as_opencv_does(
    cat: Path, source_wh: tuple[int, int], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code == "NumPy":
        monkeypatch.setenv(VARIABLE, "0")
    image = cv2.resize(load_image(cat), source_wh, interpolation=cv2.INTER_CUBIC)
    for width, height in ((1024, 681), (640, 426), (320, 1), (source_wh[0], source_wh[1] + 1)):
        np.testing.assert_array_equal(_with_ours(image, width, height), _with_opencv(image, width, height))


def test_halving_is_opencvs_mean_of_four(coffee: Path) -> None:
    image = load_image(coffee)
    height, width = (side // 2 for side in image.shape[:2])
    even = image[: 2 * height, : 2 * width]
    for part in (even, np.ascontiguousarray(even)):
        np.testing.assert_array_equal(_with_ours(part, width, height), _with_opencv(part, width, height))


def test_an_opencv_that_computes_otherwise_is_used_itself(coffee: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = library()
    if compiled is None or not compiled.has_resize:
        pytest.skip("nothing but OpenCV resizes here")
    image, real = load_image(coffee), cv2.resize
    resize._is_as_opencv.cache_clear()
    assert resize._is_as_opencv(compiled)

    def other(*arguments: Any, **named: Any) -> NDArray[np.uint8]:
        resized = real(*arguments, **named)
        resized[0, 0] ^= 1
        return resized

    monkeypatch.setattr(cv2, "resize", other)
    resize._is_as_opencv.cache_clear()
    try:
        assert not resize._is_as_opencv(compiled)
        np.testing.assert_array_equal(_with_ours(image, 512, 340), _with_opencv(image, 512, 340))
    finally:
        resize._is_as_opencv.cache_clear()
