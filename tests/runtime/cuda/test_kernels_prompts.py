"""prompts.cu against Masks.contain, Masks.box_overlap, Masks.union and OpenCV's erode and dilate, equal."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastsam_deploy.runtime.cuda import launchers, records
from fastsam_deploy.runtime.masks.bits import pack_rows, unpack_rows
from fastsam_deploy.runtime.masks.store import Masks


def _packed(host: Any, memory: Any, masks: Masks) -> tuple[np.ndarray, np.ndarray]:
    """Detections and words as masks.cu writes them, with an offset as of a second image."""
    rows = memory.empty(len(masks), records.DETECTION_DTYPE)
    words, at = [np.zeros(5, np.uint32)], 5
    for row, crop, (x, y) in zip(rows, masks.crops, masks.corners_xy, strict=True):
        height, width = crop.shape
        pitch = -(-width // 32)
        bits = np.zeros((height, pitch * 32), np.bool_)
        bits[:, :width] = crop
        words.append(np.packbits(bits, axis=1, bitorder="little").view(np.uint32).ravel())
        row["left"], row["top"], row["width"], row["height"] = x, y, width, height
        row["pitch"], row["first_word"] = pitch, at
        at += pitch * height
    return rows, memory.of(np.concatenate(words))


def _masks(rng: np.random.Generator, hw: tuple[int, int], count: int) -> Masks:
    height, width = hw
    crops, corners = [], []
    for _ in range(count):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        size = (int(rng.integers(0, height - y + 1)), int(rng.integers(0, width - x + 1)))
        crops.append(rng.random(size) < 0.6)
        corners.append((x, y))
    return Masks.from_crops(hw, tuple(crops), np.array(corners, np.int64).reshape(-1, 2))


def _ask(host: Any, masks: Masks, points: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    memory = host.Memory()
    rows, words = _packed(host, memory, masks)
    asked = memory.of(points.astype(np.int32)), memory.of(boxes.astype(np.int32))
    held = memory.empty((len(masks), len(points)), np.uint8)
    pixels = memory.empty((len(masks), len(boxes)), np.int32)
    kernels = host.library.kernels(blocks=5)
    place = rows.ctypes.data, words.ctypes.data
    launchers.contain(kernels, *place, asked[0].ctypes.data, held.ctypes.data, len(masks), len(points), None)
    launchers.box_overlap(kernels, *place, asked[1].ctypes.data, pixels.ctypes.data, len(masks), len(boxes), None)
    memory.check()
    return held, pixels


def _points_and_boxes(rng: np.random.Generator, hw: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    points = np.stack([rng.integers(0, hw[1], count), rng.integers(0, hw[0], count)], 1)
    corners = np.stack([rng.integers(0, hw[1] + 1, (count, 2)), rng.integers(0, hw[0] + 1, (count, 2))], 2)
    return points, np.sort(corners, axis=1).reshape(count, 4)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 140),
    st.integers(1, 140),
    st.sampled_from([0, 1, 2, 9]),
    st.sampled_from([0, 1, 7]),
    st.integers(0, 2**31),
)
def test_random_masks(host: Any, h: int, w: int, count: int, asked: int, seed: int):
    rng = np.random.default_rng(seed)
    masks = _masks(rng, (h, w), count)
    points, boxes = _points_and_boxes(rng, (h, w), asked)
    held, pixels = _ask(host, masks, points, boxes)
    np.testing.assert_array_equal(held, masks.contain(points))
    np.testing.assert_array_equal(pixels, masks.box_overlap(boxes))


@pytest.mark.parametrize("side", [1, 31, 32, 33, 64, 65])
def test_every_column_of_a_word(host: Any, order: int, side: int):
    crop = np.random.default_rng(side).random((3, side)) < 0.5
    masks = Masks.from_crops((5, side + 2), (crop,), np.array([[1, 1]]))
    columns = np.arange(side + 2)
    points = np.stack([columns, np.full_like(columns, 2)], 1)
    boxes = np.stack([columns[:-1], np.zeros(side + 1, int), columns[1:], np.full(side + 1, 5)], 1)
    held, pixels = _ask(host, masks, points, boxes)
    np.testing.assert_array_equal(held, masks.contain(points))
    np.testing.assert_array_equal(pixels, masks.box_overlap(boxes))


def test_nothing_to_ask_launches_nothing(host: Any):
    del host.library.launches[:]
    masks = _masks(np.random.default_rng(0), (9, 9), 3)
    _ask(host, masks, np.zeros((0, 2)), np.zeros((0, 4)))
    _ask(host, Masks.empty((9, 9)), np.zeros((2, 2)), np.zeros((2, 4)))
    assert host.library.launches == []


def _words(pixels: np.ndarray) -> np.ndarray:
    words = np.zeros((len(pixels), -(-pixels.shape[1] // 32)), np.uint32)
    pack_rows(pixels, words)
    return words


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 140), st.integers(1, 140), st.sampled_from([1, 2, 9]), st.integers(0, 9), st.integers(0, 2**31))
def test_random_masks_are_joined(host: Any, h: int, w: int, count: int, margin: int, seed: int):
    rng = np.random.default_rng(seed)
    masks = _masks(rng, (h, w), count)
    numbers = rng.permutation(count)[: max(1, count // 2)].astype(np.int32)
    wanted = masks[numbers].union(margin)
    width, height = wanted.sizes_wh[0].tolist()
    memory = host.Memory()
    rows, words = _packed(host, memory, masks)
    chosen = memory.of(numbers)
    joined, area = memory.empty((height, -(-width // 32)), np.uint32), memory.of(np.zeros(1, np.int32))
    places = (array.ctypes.data for array in (rows, words, chosen, joined, area))
    crop = (*wanted.corners_xy[0].tolist(), width, height)
    launchers.join_masks(host.library.kernels(), *places, len(numbers), crop, None)
    memory.check()
    np.testing.assert_array_equal(unpack_rows(joined, width), wanted.crops[0])
    np.testing.assert_array_equal(joined, _words(wanted.crops[0]))
    assert area[0] == wanted.areas[0]


AROUND = [(1, 1), (4, 3), (3, 4), (0, 0), (0, 5), (31, 31)]


@pytest.mark.parametrize("grows", [True, False], ids=["dilate", "erode"])
@pytest.mark.parametrize("around", AROUND, ids=str)
@pytest.mark.parametrize("size_wh", [(1, 1), (31, 5), (32, 40), (33, 33), (64, 3), (65, 70), (130, 17)], ids=str)
def test_edge_sizes_grow_and_shrink_as_in_opencv(
    host: Any, size_wh: tuple[int, int], around: tuple[int, int], grows: bool
):
    width, height = size_wh
    for share in (0.02, 0.5, 0.97, 1.0):
        pixels = np.random.default_rng(width).random((height, width)) < share
        memory = host.Memory()
        source, target = memory.of(_words(pixels)), memory.empty((height, -(-width // 32)), np.uint32)
        area = memory.of(np.full(1, 5, np.int32))
        places = (array.ctypes.data for array in (source, target, area))
        launchers.morph(host.library.kernels(), *places, size_wh, around, grows, None)
        memory.check()
        side = sum(around) + 1
        step = cv2.dilate if grows else cv2.erode
        wanted = step(pixels.view(np.uint8), np.ones((side, side), np.uint8), anchor=(around[0], around[0]))
        np.testing.assert_array_equal(target, _words(wanted.view(np.bool_)))
        assert area[0] == 5 + np.count_nonzero(wanted)
