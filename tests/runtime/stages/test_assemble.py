"""Masks from their boxes alone against the reference's formula on the whole image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastsam_deploy.runtime.errors import ModelError
from fastsam_deploy.runtime.stages.assemble import assemble, snap_to_border
from fastsam_deploy.runtime.stages.letterbox import fit, fit_rectangle


def _bilinear(data: np.ndarray, target: int, axis: int, step: float) -> np.ndarray:
    """Half-pixel bilinear along one axis in float64, the textbook way: clamp the point, mix its two neighbours."""
    source = data.shape[axis]
    at = ((np.arange(target) + 0.5) * step - 0.5).clip(0, source - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, source - 1)
    shape = [1] * data.ndim
    shape[axis] = target
    share = (at - low).reshape(shape)
    return data.take(low, axis) * (1 - share) + data.take(high, axis) * share


def _whole_image_logits(coefficients: np.ndarray, prototypes: np.ndarray, place) -> np.ndarray:
    """process_mask_native and scale_masks of ultralytics 8.4, dense, in float64: (n, h, w)."""
    c, mh, mw = prototypes.shape
    h, w = place.image_hw
    logits = (coefficients.astype(np.float64) @ prototypes.reshape(c, -1).astype(np.float64)).reshape(-1, mh, mw)
    gain = min(4 * mh / h, 4 * mw / w)
    pad = (4 * mh - max(round(h * gain), 1)) | (4 * mw - max(round(w * gain), 1))
    zoom = 4 // math.gcd(4, pad | pad // 2)
    logits = _bilinear(_bilinear(logits, mh * zoom, 1, 1 / zoom), mw * zoom, 2, 1 / zoom)
    gain = min(mh * zoom / h, mw * zoom / w)
    content_h, content_w = max(round(h * gain), 1), max(round(w * gain), 1)
    top, left = round((mh * zoom - content_h) / 2 - 0.1), round((mw * zoom - content_w) / 2 - 0.1)
    logits = logits[:, top : top + content_h, left : left + content_w]
    return _bilinear(_bilinear(logits, h, 1, content_h / h), w, 2, content_w / w)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 260),
    st.integers(1, 260),
    st.sampled_from([32, 64, 96, 160]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_masks_equal_the_dense_formula(h, w, imgsz, rect, seed):
    place = fit_rectangle((h, w), imgsz) if rect else fit((h, w), (imgsz, imgsz))
    # Where the shorter side was rounded down, the reference takes another ratio on its way back (docs/adr/0005).
    gain = min(place.input_hw[0] / h, place.input_hw[1] / w)
    assume(place.content_hw == (max(round(h * gain), 1), max(round(w * gain), 1)))
    rng = np.random.default_rng(seed)
    prototypes = rng.standard_normal((4, place.input_hw[0] // 4, place.input_hw[1] // 4)).astype(np.float32)
    coefficients = rng.standard_normal((5, 4)).astype(np.float32)
    corners = rng.random((5, 2, 2)) * 1.2 - 0.1
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1) * (w, h, w, h)
    boxes = boxes.clip(0, (w, h, w, h)).astype(np.float32)
    boxes[0] = (0, 0, w, h)

    masks = assemble(coefficients, prototypes, boxes, place)

    logits = _whole_image_logits(coefficients, prototypes, place)
    x, y = np.arange(w), np.arange(h)[:, None]
    for mask, logit, (x1, y1, x2, y2) in zip(masks, logits, boxes, strict=True):
        expected = (logit > 0) & (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
        # float32 against float64: only where the logit is as good as 0 may they differ.
        assert not (mask != expected)[np.abs(logit) > 1e-3].any()


def test_padding_is_removed_without_a_shift():
    """A prototype that is bright in the left half of a 3:2 image splits the mask there (ul#20953, CASIA's int())."""
    for image_hw in ((200, 300), (300, 200), (321, 481), (603, 1072)):
        place = fit(image_hw, (320, 320))
        left = place.to_input(np.array([[image_hw[1] / 2, 0]]))[0, 0] / 4
        centres = np.arange(80) + 0.5
        prototypes = np.broadcast_to((left - centres).astype(np.float32), (1, 80, 80))
        boxes = np.array([[0, 0, image_hw[1], image_hw[0]]], np.float32)
        mask = assemble(np.ones((1, 1), np.float32), prototypes, boxes, place).dense()[0]
        edge = mask.sum(1)
        # Half a pixel, and what rounding the content to whole input pixels costs at this scale.
        assert np.abs(edge - image_hw[1] / 2).max() <= 0.5 + image_hw[1] / place.content_hw[1]


def test_cropping_does_not_leak_before_upsampling():
    """Nothing is drawn outside the box, and the mask reaches the box's edge: ul#24272."""
    place = fit((100, 100), (64, 64))
    box = np.array([[10.2, 20.7, 55.5, 60.0]], np.float32)
    mask = assemble(np.ones((1, 1), np.float32), np.ones((1, 16, 16), np.float32), box, place)
    assert mask.boxes_xyxy().tolist() == [[11, 21, 56, 60]]
    assert mask.areas.tolist() == [45 * 39]


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [5.2, 5.2, 5.8, 5.8], [0, 0, 0, 0], [9, 9, 9, 9]])
def test_a_box_without_a_pixel_gives_an_empty_mask(box):
    place = fit((9, 9), (32, 32))
    masks = assemble(np.ones((1, 1), np.float32), np.ones((1, 8, 8), np.float32), np.array([box], np.float32), place)
    assert masks.areas.tolist() == [0]


def test_half_precision_prototypes_are_taken():
    place = fit((50, 70), (64, 64))
    rng = np.random.default_rng(0)
    prototypes = rng.standard_normal((4, 16, 16)).astype(np.float16)
    coefficients, box = rng.standard_normal((2, 4)).astype(np.float32), np.array([[0, 0, 70, 50]] * 2, np.float32)
    one = assemble(coefficients, prototypes, box, place).dense()
    np.testing.assert_array_equal(one, assemble(coefficients, prototypes.astype(np.float32), box, place).dense())


def test_snap_handles_every_box_not_only_the_first():
    """PR ul#25175: the fix once overwrote box 0."""
    boxes = np.array([[40, 40, 60, 60], [3, 2, 190, 99], [19.9, 20, 180.1, 80], [1, 1, 199, 85]], np.float32)
    snapped = snap_to_border(boxes, (100, 200))
    assert snapped.tolist() == [[40, 40, 60, 60], [0, 0, 200, 100], [0, 20, 200, 80], [0, 0, 200, 100]]
    assert boxes[1].tolist() == [3, 2, 190, 99], "the input stays as it was"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_prototypes_that_overflowed_are_an_error_not_an_empty_mask(bad):
    place = fit((9, 9), (32, 32))
    prototypes = np.ones((1, 8, 8), np.float32)
    prototypes[0, 3, 3] = bad
    with pytest.raises(ModelError, match="NaN or infinity"):
        assemble(np.ones((1, 1), np.float32), prototypes, np.array([[0, 0, 9, 9]], np.float32), place)
