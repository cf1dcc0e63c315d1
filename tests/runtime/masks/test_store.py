"""Cropped masks against the dense formula, and RLE against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from fastsam_deploy.runtime.errors import FastSamError
from fastsam_deploy.runtime.masks.store import Masks, concatenate

STACKS = st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9)).flatmap(lambda s: hnp.arrays(np.bool_, s))


@given(STACKS)
def test_dense_comes_back(stack):
    masks = Masks.from_dense(stack)
    assert len(masks) == len(stack)
    np.testing.assert_array_equal(masks.dense(), stack)
    np.testing.assert_array_equal(masks.areas, stack.sum((1, 2)))
    for one, expected in zip(masks, stack, strict=True):
        np.testing.assert_array_equal(one, expected)


@given(STACKS)
def test_rle_is_that_of_pycocotools(stack):
    ours = Masks.from_dense(stack).rle()
    for rle, mask in zip(ours, stack, strict=True):
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    np.testing.assert_array_equal(Masks.from_rle(ours, stack.shape[1:]).dense(), stack)


def test_rle_of_a_large_mask_and_of_wide_crops(coffee):
    """Long runs need several characters, and a crop need not be tight."""
    rng = np.random.default_rng(0)
    dense = np.zeros((3, 1500, 2000), np.bool_)
    dense[0, 100:1400, 7:1999] = True
    dense[1] = rng.random((1500, 2000)) < 0.5
    loose = Masks.from_crops((1500, 2000), tuple(m.copy() for m in dense), np.zeros((3, 2), np.int64))
    for rle, mask in zip(loose.rle(), dense, strict=True):
        assert rle["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    np.testing.assert_array_equal(Masks.from_rle(loose.rle(), (1500, 2000)).dense(), dense)


def test_uncompressed_rle_opens():
    masks = Masks.from_rle([{"size": [2, 3], "counts": [1, 2, 3]}], (2, 3))
    np.testing.assert_array_equal(masks.dense()[0], [[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    "rle",
    [
        pytest.param({"size": [2, 3], "counts": [1, 2, 99]}, id="runs past the image"),
        pytest.param({"size": [2, 3], "counts": [7, -2, 1]}, id="a negative run"),
        pytest.param({"size": [3, 2], "counts": [6]}, id="another size"),
        pytest.param({"size": [2, 3], "counts": "\x00"}, id="not the alphabet"),
        pytest.param({"size": [2, 3], "counts": "PPPPPPPPPPPPPPP0"}, id="a number of 75 bits"),
        pytest.param({"size": [2, 3], "counts": "ö"}, id="not ASCII"),
        pytest.param({"size": [2, 3]}, id="no counts"),
        pytest.param({"size": "?", "counts": [6]}, id="no size"),
        pytest.param({"size": [2, 3], "counts": None}, id="no text"),
    ],
)
def test_damaged_rle_is_refused(rle):
    with pytest.raises(FastSamError):
        Masks.from_rle([rle], (2, 3))


@given(STACKS, st.data())
def test_points_and_boxes_equal_the_dense_formula(stack, data):
    masks = Masks.from_dense(stack)
    _, height, width = stack.shape
    points = np.array(data.draw(st.lists(st.tuples(st.integers(0, width - 1), st.integers(0, height - 1)), max_size=6)))
    points = points.reshape(-1, 2).astype(np.int64)
    np.testing.assert_array_equal(masks.contain(points), stack[:, points[:, 1], points[:, 0]])
    corners = np.array([sorted(data.draw(st.tuples(st.integers(0, s), st.integers(0, s)))) for s in (width, height)])
    (x1, x2), (y1, y2) = corners
    inside = stack[:, y1:y2, x1:x2].sum((1, 2))
    np.testing.assert_array_equal(masks.box_overlap(np.array([[x1, y1, x2, y2]]))[:, 0], inside)


@given(STACKS, st.integers(0, 12))
def test_union_margin_and_join(stack, margin):
    masks = Masks.from_dense(stack)
    np.testing.assert_array_equal(masks.with_margin(margin).dense(), stack)
    union = masks.union().dense()
    if len(stack):
        np.testing.assert_array_equal(union[0], stack.any(0))
    twice = concatenate([masks, masks], masks.image_hw)
    np.testing.assert_array_equal(twice.dense(), np.concatenate([stack, stack]))
    rows, columns = stack.any(2), stack.any(1)
    for box, row, column in zip(masks.boxes_xyxy(), rows, columns, strict=True):
        y, x = np.flatnonzero(row), np.flatnonzero(column)
        assert box.tolist() == ([x[0], y[0], x[-1] + 1, y[-1] + 1] if len(x) else [0, 0, 0, 0])


def test_rows_are_taken_by_slice_bools_and_numbers():
    masks = Masks.from_dense(np.eye(4, dtype=bool)[:, None, :])
    assert masks.areas.tolist() == [1] * 4
    for rows, expected in (
        (slice(1, 3), [1, 2]),
        ([True, False, False, True], [0, 3]),
        ([3, 0, 3], [3, 0, 3]),
        ([], []),
    ):
        part = masks[rows]
        assert part.corners_xy[:, 0].tolist() == expected and len(part.areas) == len(expected)
    with pytest.raises(IndexError):
        masks[[4]]
    with pytest.raises(IndexError):
        masks[[True]]


@pytest.mark.parametrize(
    ("crop", "corner", "says"),
    [
        (np.ones((2, 2), np.uint8), (0, 0), "expected bool"),
        (np.ones((2, 2), bool), (4, 0), "leaves the image"),
        (np.ones((2, 2), bool), (-1, 0), "leaves the image"),
    ],
)
def test_a_crop_that_cannot_be_is_refused(crop, corner, says):
    with pytest.raises(ValueError, match=says):
        Masks.from_crops((5, 5), (crop,), np.array([corner]))
