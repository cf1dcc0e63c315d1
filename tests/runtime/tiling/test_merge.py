"""Tiles of known scenes: every thing comes back once and whole, whatever the tiles cut through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.runtime import Masks, ParameterError, Segments, Tiles
from fastsam_deploy.runtime.tiling.compare import alike
from fastsam_deploy.runtime.tiling.grid import tile_boxes
from fastsam_deploy.runtime.tiling.merge import Part, merged, placed

HW = (300, 400)
TILES = tile_boxes(HW, 120, 0.3)


def _segments(masks: list[NDArray[np.bool_]], scores: list[float], classes: list[int] | None = None) -> Segments:
    stored = Masks.from_dense(np.array(masks).reshape(-1, *masks[0].shape))
    numbers = np.array([0] * len(masks) if classes is None else classes)
    return Segments.unprompted(stored.boxes_xyxy(), np.array(scores, np.float32), numbers, stored, ("a", "b"))


def _disk(x: float, y: float, radius: float, image_hw: tuple[int, int] = HW) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: image_hw[0], : image_hw[1]]
    inside: NDArray[np.bool_] = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2
    return inside


def _parts(scene: list[NDArray[np.bool_]], classes: list[int] | None = None, seed: int = 0) -> list[Part]:
    """What a perfect network would see in each tile: the visible part of everything, with scores of its own."""
    rng = np.random.default_rng(seed)
    numbers = [0] * len(scene) if classes is None else classes
    parts = []
    for tile in TILES:
        left, top, right, bottom = tile.tolist()
        seen = [(mask[top:bottom, left:right], number) for mask, number in zip(scene, numbers, strict=True)]
        seen = [pair for pair in seen if pair[0].sum() > 20]
        if seen:
            crops = _segments([mask for mask, _ in seen], rng.uniform(0.5, 1, len(seen)).tolist(), [n for _, n in seen])
        else:
            crops = Segments.empty((bottom - top, right - left), ("a", "b"))
        parts.append(Part(placed(crops, tile, HW), tile, 1))
    return parts


SCENE = [_disk(60, 60, 25), _disk(200, 150, 110), _disk(300, 60, 40), _disk(330, 230, 12), _disk(395, 295, 50)]
SCENE.append(_disk(200, 150, 140) & ~_disk(200, 150, 125))  # a ring around the large disk


@pytest.mark.parametrize("seed", range(5))
def test_every_thing_comes_back_once_and_whole(seed: int):
    answer = merged(_parts(SCENE, seed=seed))
    assert len(answer) == len(SCENE)
    dense = answer.masks.dense()
    for thing in SCENE:
        assert any(np.array_equal(thing, mask) for mask in dense)
    np.testing.assert_array_equal(answer.boxes_xyxy, answer.masks.boxes_xyxy())
    assert (np.diff(answer.scores) <= 0).all()


def test_the_same_tiles_give_the_same_answer_whichever_thread_was_first():
    assert merged(_parts(SCENE)) == merged(_parts(SCENE))


def test_things_of_other_classes_stay_apart():
    scene = [_disk(200, 150, 110), _disk(200, 150, 111)]
    answer = merged(_parts(scene, [0, 1]))
    assert sorted(answer.classes.tolist()) == [0, 1]
    for row, thing in zip(np.argsort(answer.classes), scene, strict=True):
        np.testing.assert_array_equal(answer.masks.full(int(row)), thing)
    assert len(merged(_parts(scene, [0, 0]))) == 1


def test_of_copies_the_one_with_the_higher_score_stays():
    tile, other = np.array([0, 0, 120, 120]), np.array([60, 0, 180, 120])
    disk, smaller = _disk(90, 60, 20), _disk(90, 60, 18.5)
    parts = [
        Part(placed(_segments([disk[:120, :120]], [0.6]), tile, HW), tile, 1),
        Part(placed(_segments([smaller[:120, 60:180]], [0.9]), other, HW), other, 1),
    ]
    (mask,) = merged(parts).masks
    np.testing.assert_array_equal(mask, smaller)
    assert len(merged(parts, merge_iou=0.9)) == 2


def test_a_low_score_counts_where_another_tile_agrees():
    disk, elsewhere = _disk(90, 60, 20), _disk(150, 60, 10)
    tiles = [np.array([0, 0, 120, 120]), np.array([60, 0, 180, 120])]

    def parts(scores: tuple[list[float], list[float]]) -> list[Part]:
        seen = ([disk[:120, :120]], [disk[:120, 60:180], elsewhere[:120, 60:180]])
        return [
            Part(placed(_segments(masks, values), tile, HW), tile, 1)
            for masks, values, tile in zip(seen, scores, tiles, strict=True)
        ]

    (mask,) = merged(parts(([0.35], [0.3, 0.39])), conf=0.4).masks  # nothing agrees with the other one
    np.testing.assert_array_equal(mask, disk)
    assert len(merged(parts(([0.35], [0.3, 0.41])), conf=0.4)) == 2
    assert len(merged(parts(([0.35], [0.3, 0.39])))) == 2


@pytest.mark.parametrize("native", ["", "0"], ids=["compiled", "NumPy"])
@pytest.mark.parametrize("seed", range(3))
def test_alike_are_the_pairs_that_counting_all_pixels_gives(seed: int, native: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASTSAM_NATIVE", native)
    rng = np.random.default_rng(seed)
    dense = np.zeros((40, 90, 130), np.bool_)
    for i in range(0, 40, 2):
        dense[i] = _disk(*rng.uniform(-10, 130, 2), rng.uniform(3, 40), (90, 130))
        dense[i + 1] = dense[i] & (rng.random((90, 130)) < rng.uniform(0.8, 1))
    dense[0] = False
    masks, window = Masks.from_dense(dense), np.array([21, 13, 101, 88])
    cut = dense[:, 13:88, 21:101].reshape(40, -1).astype(np.int64)
    shared = cut @ cut.T
    union = cut.sum(1)[:, None] + cut.sum(1) - shared
    expected = [(i, j, shared[i, j]) for i, j in np.argwhere((union > 0) & (shared >= 0.8 * union)).tolist()]
    pairs, counts = alike(masks, masks, window, 0.8)
    assert [(*pair, count) for pair, count in zip(pairs.tolist(), counts, strict=True)] == expected
    assert len(expected) > 40
    np.testing.assert_array_equal(masks.box_overlap(window[None])[:, 0], cut.sum(1))


def test_the_whole_image_adds_what_no_tile_has():
    coarse, everything = _disk(200, 150, 112), np.ones(HW, np.bool_)
    answer = merged(_parts([SCENE[1]]), _segments([coarse, everything], [0.99, 0.3]))
    assert len(answer) == 2
    np.testing.assert_array_equal(answer.masks.full(0), SCENE[1])  # that of the tiles is finer
    np.testing.assert_array_equal(answer.masks.full(1), everything)


def test_boxes_at_inner_borders_of_tiles_are_those_of_the_masks():
    """A tile moves edges of boxes that are near its border onto it, as FastSAM does at the border of an image."""
    tile = np.array([0, 0, 120, 120])
    segments = _segments([_disk(90, 30, 20)[:120, :120]], [0.9])
    snapped = replace(segments, boxes_xyxy=np.array([[70, 0, 120, 50]], np.float32))
    answer = merged([Part(placed(snapped, tile, HW), tile, 1)])
    assert answer.boxes_xyxy.tolist() == [[70, 0, 110, 50]]  # the top is the border of the image


def test_no_segments_at_all():
    answer = merged(_parts([np.zeros(HW, np.bool_)]), Segments.empty(HW))
    assert len(answer) == 0 and answer.image_hw == HW


@pytest.mark.parametrize("image_hw", [(100, 100), (640, 641), (4000, 6000), (50, 3000)])
@pytest.mark.parametrize(("size", "overlap"), [(100, 0), (640, 0.25), (1000, 0.5), (64, 0.75)])
def test_tiles_cover_the_image_and_overlap(image_hw: tuple[int, int], size: int, overlap: float):
    boxes = tile_boxes(image_hw, size, overlap)
    height, width = image_hw
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
    assert (boxes[:, 2:] - boxes[:, :2] == (min(size, width), min(size, height))).all()
    for low, side in ((boxes[:, 0], width), (boxes[:, 1], height)):
        starts = np.unique(low)
        assert starts[0] == 0 and starts[-1] == max(0, side - size)
        assert (np.diff(starts) <= max(1, int(size * (1 - overlap))) + 1).all()
        if overlap and len(starts) > 1:
            assert (size - np.diff(starts) >= overlap * size - 1).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size_px": 32}, "size_px is 32, expected a whole number of 64 or more"),
        ({"size_px": True}, "size_px is True"),
        ({"size_px": 100.5}, r"size_px is 100\.5"),
        ({"overlap": 0.8}, r"overlap is 0\.8, expected 0 … 0\.75"),
        ({"overlap": -0.1}, r"overlap is -0\.1"),
        ({"merge_iou": 0}, "merge_iou is 0, expected 0 < merge_iou ≤ 1"),
        ({"confirmed": 1.5}, r"confirmed is 1\.5, expected 0 < confirmed ≤ 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str):
    with pytest.raises(ParameterError, match=message):
        Tiles(**settings)  # type: ignore[arg-type]
