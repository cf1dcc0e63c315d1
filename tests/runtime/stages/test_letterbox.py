"""Geometry: both directions, odd sizes, and equality with the formula of the reference."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsam_deploy.runtime.errors import ImageError
from fastsam_deploy.runtime.stages.letterbox import bilinear, fit, fit_rectangle, letterbox, mask_resampling

SIDES = st.integers(1, 5000)
SIZES = st.integers(1, 40).map(lambda k: 32 * k)


@given(SIDES, SIDES, SIZES)
def test_rectangle_is_the_smallest_that_holds_the_content(h: int, w: int, imgsz: int):
    place = fit_rectangle((h, w), imgsz)
    height, width = place.input_hw
    content_h, content_w = place.drawn_hw
    assert max(height, width) == imgsz and not height % 32 and not width % 32
    assert 0 <= height - content_h < 32 and 0 <= width - content_w < 32
    assert min(place.content_hw) >= 1
    # What coordinates take for the content is what was drawn, but for a pixel.
    assert np.abs(np.subtract(place.content_hw, place.drawn_hw)).max() <= 1
    assert np.abs(np.subtract(place.pad_xy, place.drawn_xy)).max() <= 1
    assert 0 <= place.pad_xy[0] <= width - content_w and 0 <= place.pad_xy[1] <= height - content_h


@given(
    SIDES, SIDES, SIZES, st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5)
)
def test_points_come_back(h: int, w: int, imgsz: int, rect: bool, shares: list[tuple[float, float]]):
    place = fit_rectangle((h, w), imgsz) if rect else fit((h, w), (imgsz, imgsz))
    points = np.array(shares) * (w, h)
    inside = place.to_input(points)
    left_top = np.array(place.pad_xy)
    assert (inside >= left_top - 1e-6).all() and (inside <= left_top + place.content_hw[::-1] + np.float64(1e-6)).all()
    np.testing.assert_allclose(place.to_image(inside), points, atol=1e-6 * max(h, w))


@given(SIDES, SIDES, SIZES)
def test_boxes_come_back_clipped(h: int, w: int, imgsz: int):
    place = fit((h, w), (imgsz, imgsz))
    whole = np.array([[-1e5, -1e5, 1e5, 1e5]], np.float32)
    np.testing.assert_array_equal(place.boxes_to_image(whole), [[0, 0, w, h]])
    corners = np.concatenate([place.to_input(np.array([[0, 0]])), place.to_input(np.array([[w, h]]))], 1)
    np.testing.assert_allclose(
        place.boxes_to_image(corners.astype(np.float32)), [[0, 0, w, h]], rtol=1e-5, atol=1e-3 * max(h, w) / imgsz
    )


@pytest.mark.parametrize("image_hw", [(1, 1), (1, 130), (130, 1), (17, 9), (480, 640), (4000, 300), (33, 31)])
@pytest.mark.parametrize("rect", [True, False])
def test_pixels_are_the_resized_image_in_a_border_of_114(image_hw, rect):
    image = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), np.uint8)
    place = fit_rectangle(image_hw, 128) if rect else fit(image_hw, (128, 128))
    blob = letterbox(image, place)
    assert blob.shape == (3, *place.input_hw) and blob.dtype == np.float32 and blob.flags.c_contiguous
    (content_h, content_w), (left, top) = place.drawn_hw, place.drawn_xy
    expected = np.full((*place.input_hw, 3), 114, np.uint8)
    expected[top : top + content_h, left : left + content_w] = cv2.resize(image, (content_w, content_h))
    np.testing.assert_array_equal(blob, expected.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_a_given_buffer_is_filled_whole():
    image = np.zeros((10, 100, 3), np.uint8)
    place = fit(image.shape[:2], (64, 64))
    dirty = np.full((3, 64, 64), np.nan, np.float32)
    assert letterbox(image, place, dirty) is dirty
    np.testing.assert_array_equal(dirty, letterbox(image, place))


@given(st.integers(1, 300), st.integers(1, 300))
def test_bilinear_keeps_a_ramp(source: int, target: int):
    """Linear data between the first and last centre comes out linear; beyond them it is the first or last value."""
    index, weight = bilinear(source, target)
    assert (index >= 0).all() and (index < source).all() and (weight >= 0).all() and (weight < 1).all()
    ramp = np.arange(source + 1, dtype=np.float64)
    ramp[source] = source - 1  # past the last pixel there is only itself
    got = ramp[index] * (1 - weight) + ramp[index + 1] * weight
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    np.testing.assert_allclose(got, centres.clip(0, source - 1), atol=1e-3)


@given(SIDES, SIDES, SIZES, st.booleans())
def test_mask_resampling_stays_inside_the_prototypes(h: int, w: int, imgsz: int, rect: bool):
    place = fit_rectangle((h, w), imgsz) if rect else fit((h, w), (imgsz, imgsz))
    prototypes_hw = (place.input_hw[0] // 4, place.input_hw[1] // 4)
    for axis, source, side in zip(mask_resampling(place, prototypes_hw), prototypes_hw, (h, w), strict=True):
        assert axis.first.shape == (side,) and axis.shares.shape == (side, 3)
        assert (np.diff(axis.first) >= 0).all() and axis.first[0] >= 0 and axis.first[-1] + 2 < source
        assert (axis.shares >= 0).all()
        np.testing.assert_allclose(axis.shares.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("hw", [(0, 5), (5, 0), (2**20 + 1, 1), (1, 20_000_000)], ids=str)
def test_sides_that_no_memory_is_asked_for(hw: tuple[int, int]):
    for place in (lambda: fit(hw, (64, 64)), lambda: fit_rectangle(hw, 64)):
        with pytest.raises(ImageError, match=r"expected (at least 1×1|sides of at most 1,048,576)"):
            place()


def test_narrow_strips_are_not_squashed():
    """Letterbox and its way back must agree (ul#20953): here the reference's way back is off by 8 of 1024 rows."""
    place = fit_rectangle((4000, 126), 1024)
    assert place.input_hw == (1024, 32) and place.drawn_hw == (1024, 32)
    marked = np.zeros((4000, 126, 3), np.uint8)
    marked[3800:3900] = 255
    rows = np.flatnonzero(letterbox(marked, place)[0].mean(1) > 0.5)
    back = place.to_image(np.array([[0, rows[0]], [0, rows[-1] + 1]]))[:, 1]
    np.testing.assert_allclose(back, [3800, 3900], atol=4)
