"""Masks stay packed whatever is done with them: one bit a pixel, measured in bytes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastsam_deploy.runtime import Everything, Masks, Segments
from fastsam_deploy.runtime.masks.packed import PackedCrops
from fastsam_deploy.runtime.masks.store import PackedMasks, concatenate
from fastsam_deploy.runtime.wire.answer import answer_tensors, answers_from_tensors

STACKS = st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 50)).flatmap(lambda s: hnp.arrays(np.bool_, s))
HW = (640, 960)
NUMBERS_OF_A_MASK = 48
"""Bytes of corner, size, area and start."""


def _segments() -> Segments:
    rng = np.random.default_rng(0)
    masks = Masks.from_dense(rng.random((5, *HW)) < 0.5)
    return Segments.unprompted(masks.boxes_xyxy(), np.ones(5, np.float32), np.zeros(5, np.int64), masks)


def _held_bytes(masks: Masks) -> int:
    assert isinstance(masks, PackedMasks)
    arrays = [masks.corners_xy, masks.sizes_wh, masks.areas, masks.crops.words, masks.crops.starts]
    whole = {id(array): array for array in (a if a.base is None else a.base for a in arrays)}
    return sum(memoryview(array).nbytes for array in whole.values())


def _loaded(segments: Segments, path: Path) -> Segments:
    segments.save(path)
    return Segments.load(path)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s, _: s.select([Everything()]), id="a list of one prompt"),
        pytest.param(lambda s, _: s.select([Everything(), Everything()])[:5], id="a list of two prompts"),
        pytest.param(lambda s, folder: _loaded(s, folder / "x.npz"), id="a loaded NPZ file"),
        pytest.param(lambda s, folder: _loaded(s, folder / "x.json"), id="a loaded JSON file"),
        pytest.param(lambda s, _: answers_from_tensors(answer_tensors([s], ["bits"]), ("a",))[0], id="from a server"),
        pytest.param(lambda s, _: pickle.loads(pickle.dumps(s)), id="pickled"),
    ],
)
def test_masks_stay_packed(change, tmp_path):
    segments = _segments()
    pixels = 5 * HW[0] * HW[1]
    assert _held_bytes(segments.masks) <= pixels / 8 + 5 * NUMBERS_OF_A_MASK
    other = change(segments, tmp_path)
    assert other.masks == segments.masks
    assert _held_bytes(other.masks) <= pixels / 8 + 10 * NUMBERS_OF_A_MASK
    assert other.masks.nbytes <= pixels / 8 + 5 * NUMBERS_OF_A_MASK


def test_parts_of_the_same_masks_are_joined_without_a_copy():
    masks = _segments().masks
    both = concatenate([masks[:3], masks[2:]], HW)
    assert both.crops.words is masks.crops.words
    assert both == masks[[0, 1, 2, 2, 3, 4]]
    assert concatenate([masks], HW) is masks


@given(STACKS, STACKS)
def test_masks_of_several_images_are_joined(one, other):
    other = np.resize(other, (len(other), *one.shape[1:]))
    both = concatenate([Masks.from_dense(one), Masks.from_dense(other), Masks.from_dense(one)], one.shape[1:])
    np.testing.assert_array_equal(both.dense(), np.concatenate([one, other, one]))
    np.testing.assert_array_equal(both.areas, both.dense().sum((1, 2)))
    assert len(concatenate([], (3, 4))) == 0


@given(STACKS)
def test_equal_are_the_same_pixels_however_wide_the_crops(stack):
    masks = Masks.from_dense(stack)
    wide = Masks.from_crops(stack.shape[1:], stack, np.zeros((len(stack), 2), np.int64))
    assert masks == wide and wide == masks.with_margin(2) and wide.trimmed() == wide
    assert wide.digests == masks.digests
    assert masks != Masks.from_dense(np.pad(stack, ((0, 0), (0, 1), (0, 0))))
    assert masks != "masks"
    if len(stack):
        other = stack.copy()
        other[-1, 0, 0] ^= True
        assert masks != Masks.from_dense(other) and masks != masks[1:]
        assert masks.digests != Masks.from_dense(other).digests
    with pytest.raises(TypeError, match="unhashable"):
        hash(masks)


@given(STACKS)
def test_trimmed_crops_are_as_small_as_the_masks(stack):
    wide = Masks.from_crops(stack.shape[1:], stack, np.zeros((len(stack), 2), np.int64))
    trimmed = wide.trimmed()
    np.testing.assert_array_equal(trimmed.dense(), stack)
    for crop, area in zip(trimmed.crops, trimmed.areas, strict=True):
        assert area == np.count_nonzero(crop)
        assert crop.size == 0 or all(edge.any() for edge in (crop[0], crop[-1], crop[:, 0], crop[:, -1]))
    assert trimmed.trimmed().crops is trimmed.crops


@given(STACKS, st.integers(0, 60))
def test_a_union_with_a_margin_is_the_union(stack, margin):
    masks = Masks.from_dense(stack)
    assert masks.union(margin) == masks.union()
    if len(stack):
        ends = masks.corners_xy + masks.sizes_wh
        left, top = np.maximum(masks.corners_xy.min(0) - margin, 0)
        right, bottom = np.minimum(ends.max(0) + margin, stack.shape[:0:-1])
        assert masks.union(margin).corners_xy.tolist() == [[left, top]]
        assert masks.union(margin).sizes_wh.tolist() == [[right - left, bottom - top]]


def test_crops_are_a_sequence():
    crops = PackedCrops.of([np.eye(n, dtype=bool) for n in (1, 2, 40)])
    assert [crop.shape for crop in crops] == [(1, 1), (2, 2), (40, 40)]
    assert [crop.shape for crop in crops[1:]] == [(2, 2), (40, 40)]
    np.testing.assert_array_equal(crops[-1], np.eye(40))
    with pytest.raises(IndexError):
        crops[3]
    with pytest.raises(ValueError, match=r"crop 0 is uint8 \(2, 2\), expected bool"):
        PackedCrops.of([np.ones((2, 2), np.uint8)])


def test_corners_that_do_not_fit_the_crops_are_refused():
    with pytest.raises(ValueError, match=r"corners_xy \(2, 2\) and areas \(1,\), expected \(1, 2\) and \(1,\)"):
        Masks.from_crops((5, 5), [np.ones((2, 2), bool)], np.zeros((2, 2), np.int64))
