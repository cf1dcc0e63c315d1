"""The two layouts of bits: what is written is what the clients of files, wire and kernels read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastsam_deploy.runtime.masks.bits import cut_rows, pack_bytes, pack_rows, unpack_bytes, unpack_rows, words_per_row

PIXELS = st.tuples(st.integers(0, 4), st.integers(0, 100)).flatmap(lambda shape: hnp.arrays(np.bool_, shape))


def _words(pixels: np.ndarray) -> np.ndarray:
    words = np.zeros((pixels.shape[0], int(words_per_row(np.array([pixels.shape[1]]))[0])), np.uint32)
    pack_rows(pixels, words)
    return words


@given(PIXELS)
def test_words_hold_the_leftmost_pixel_in_the_lowest_bit_and_rows_start_a_word(pixels):
    words = _words(pixels)
    for y, row in enumerate(pixels):
        number = sum(int(bit) << x for x, bit in enumerate(row))
        assert [int(word) for word in words[y]] == [number >> 32 * k & 0xFFFFFFFF for k in range(words.shape[1])]
    np.testing.assert_array_equal(unpack_rows(words, pixels.shape[1]), pixels)


@given(PIXELS, st.data())
def test_rows_are_cut_without_unpacking(pixels, data):
    left = data.draw(st.integers(0, pixels.shape[1]))
    width = data.draw(st.integers(0, pixels.shape[1] - left))
    part = pixels[:, left : left + width]
    np.testing.assert_array_equal(cut_rows(_words(pixels), left, width), _words(part))


@given(PIXELS)
def test_bytes_hold_the_first_pixel_in_the_highest_bit_and_rows_follow_one_another(pixels):
    packed = pack_bytes(pixels)
    text = "".join("01"[bit] for bit in pixels.ravel().tolist())
    assert "".join(f"{byte:08b}" for byte in packed.tolist()) == text.ljust(len(packed) * 8, "0")
    assert len(packed) == -(-pixels.size // 8)
    np.testing.assert_array_equal(unpack_bytes(packed, pixels.shape), pixels)


@given(st.lists(PIXELS, max_size=4))
def test_crops_one_after_the_other_come_back(crops):
    packed = pack_bytes(np.concatenate([np.zeros(0, np.bool_), *(crop.ravel() for crop in crops)]))
    first = 0
    for crop in crops:
        np.testing.assert_array_equal(unpack_bytes(packed, crop.shape, first), crop)
        first += crop.size
    with pytest.raises(ValueError, match="ends at bit"):
        unpack_bytes(packed, (1, 8), first)
