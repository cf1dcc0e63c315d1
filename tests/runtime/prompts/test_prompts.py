"""Prompts on small masks that can be drawn by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime.errors import PromptError
from fastsam_deploy.runtime.masks.cleaning import clean_mask
from fastsam_deploy.runtime.masks.store import Masks
from fastsam_deploy.runtime.prompts.boxes import Boxes
from fastsam_deploy.runtime.prompts.everything import Everything
from fastsam_deploy.runtime.prompts.points import Points
from fastsam_deploy.runtime.segments import Segments


@pytest.fixture
def scene() -> Segments:
    """100 x 100: 0 whole left half, 1 a square inside it, 2 right half, 3 a copy of 1 with a better score."""
    dense = np.zeros((4, 100, 100), np.bool_)
    dense[0, :, :50] = True
    dense[1, 20:40, 10:30] = True
    dense[2, :, 50:] = True
    dense[3, 20:40, 10:30] = True
    scores = np.array([0.8, 0.6, 0.9, 0.7], np.float32)
    masks = Masks.from_dense(dense)
    return Segments.unprompted(masks.boxes_xyxy(), scores, np.zeros(4, np.int64), masks)


def test_everything_is_all(scene):
    assert scene.select(Everything()) is scene


def test_n_points_give_n_masks_in_their_order(scene):
    """N points give one merged mask, N wanted: CASIA#134."""
    answer = scene.select(Points([[70, 50], [15, 25], [5, 5]], mode="each"))
    assert answer.areas.tolist() == [5000, 5000, 5000] and answer.prompts.tolist() == [0, 1, 2]
    np.testing.assert_allclose(answer.fits, [0.9, 0.8, 0.8])


def test_each_takes_the_best_score_then_the_smallest(scene):
    without_left = Points([[15, 25], [5, 5]], [1, 0], mode="each")
    answer = scene.select(without_left)
    assert answer.scores.tolist() == [np.float32(0.7)] and answer.prompts.tolist() == [0]
    level = Segments.unprompted(scene.boxes_xyxy, np.full(4, 0.5, np.float32), scene.classes, scene.masks)
    assert level.select(Points([[15, 25]], mode="each")).areas.tolist() == [400]


def test_each_numbers_its_answers_by_foreground_point(scene):
    answer = scene.select(Points([[99, 99], [5, 5], [15, 25]], [0, 1, 1], mode="each"))
    assert answer.prompts.tolist() == [1, 2]


def test_merge_is_the_union_without_masks_under_background_points(scene):
    answer = scene.select(Points([[70, 50], [15, 25], [5, 5]], [1, 1, 0], clean=False))
    assert len(answer) == 1 and answer.areas.tolist() == [5000 + 400]
    assert (
        answer.scores.tolist() == [np.float32(0.9)] and answer.prompts.tolist() == [0] and answer.fits.tolist() == [1]
    )
    assert answer.boxes_xyxy.tolist() == [[10, 0, 100, 100]]


def test_all_keeps_them_apart_with_the_part_of_the_points_they_hold(scene):
    answer = scene.select(Points([[70, 50], [15, 25]], mode="all"))
    assert len(answer) == 4 and answer.fits.tolist() == [0.5] * 4 and set(answer.prompts) == {0}


@pytest.mark.parametrize("mode", ["merge", "all"])
def test_background_points_alone_keep_what_they_do_not_touch(scene, mode):
    answer = scene.select(Points([[15, 25]], [0], mode=mode))
    assert answer.areas.tolist() == [5000]


@pytest.mark.parametrize("mode", ["merge", "each", "all"])
def test_points_that_hit_nothing_answer_nothing(scene, mode):
    for segments in (scene[[1]], Segments.empty((100, 100))):
        answer = segments.select(Points([[90, 90]], mode=mode))
        assert len(answer) == 0 and answer.image_hw == (100, 100)


@pytest.mark.parametrize("xy", [(-1, 5), (5, -1.5), (101, 5), (5, 101), (1e9, 0), (-1e300, 5)])
def test_points_outside_the_image_say_so(scene, xy):
    """Negative coordinates silently pick a wrong mask: ul#25916."""
    with pytest.raises(PromptError, match=r"point 1 .*x in \[0, 100\)"):
        scene.select(Points([[5, 5], xy]))


@pytest.mark.parametrize(
    ("outside", "nearest"),
    [((-0.0001, 5), (0, 5)), ((5, -0.99), (5, 0)), ((100, 5), (99, 5)), ((5, 100.99), (5, 99)), ((100, 100), (99, 99))],
)
@pytest.mark.parametrize("mode", ["merge", "each", "all"])
def test_a_point_less_than_a_pixel_outside_is_the_nearest_pixel(scene, outside, nearest, mode):
    assert scene.select(Points([outside], mode=mode)) == scene.select(Points([nearest], mode=mode))
    prompts = Points([[10, 25], outside], [1, 0]), Points([[10, 25], nearest], [1, 0])
    assert scene.select(prompts[0]) == scene.select(prompts[1])


def test_fractions_belong_to_their_pixel(scene):
    assert scene.select(Points([[49.99, 0]], mode="each")).prompts.tolist() == [0]
    assert scene.select(Points([[49.99, 0]], mode="each")).boxes_xyxy[0, 2] == 50


def test_boxes_keep_order_and_duplicates(scene):
    """Several boxes return a set, order and duplicates lost: CASIA#58."""
    answer = scene.select(Boxes([[55, 0, 100, 100], [10, 20, 30, 40], [55, 5, 100, 100], [0, 0, 50, 100]]))
    assert answer.areas.tolist() == [5000, 400, 5000, 5000] and answer.prompts.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(answer.fits, [0.9, 1, 45 * 95 / 5000, 1])


def test_box_iou_is_between_mask_and_box_not_between_boxes():
    """A thin diagonal and a small square share a bounding box with the prompt to different degrees."""
    dense = np.zeros((2, 40, 40), np.bool_)
    np.fill_diagonal(dense[0], True)
    dense[1, 10:30, 10:30] = True
    masks = Masks.from_dense(dense)
    both = Segments.unprompted(masks.boxes_xyxy(), np.ones(2, np.float32), np.zeros(2, np.int64), masks)
    assert both.select(Boxes([0, 0, 40, 40])).areas.tolist() == [400]


def test_a_box_that_no_mask_touches_has_no_answer(scene):
    answer = scene[[1]].select(Boxes([[60, 60, 90, 90], [10, 20, 30, 40]]))
    assert answer.prompts.tolist() == [1]
    assert len(Segments.empty((100, 100)).select(Boxes([0, 0, 5, 5]))) == 0


@pytest.mark.parametrize("box", [[-1, 0, 5, 5], [0, 0, 101, 5], [0, 0, 5, 101.5], [-1e300, 0, 5, 5]])
def test_boxes_outside_the_image_say_so(scene, box):
    with pytest.raises(PromptError, match=r"from \(0, 0\) to \(100, 100\)"):
        scene.select(Boxes([box]))


@pytest.mark.parametrize(
    ("beyond", "clipped"),
    [
        ([-0.0001, 0, 50, 100], [0, 0, 50, 100]),
        ([-0.99, -0.99, 50, 100.99], [0, 0, 50, 100]),
        ([50, 0, 100.0001, 100], [50, 0, 100, 100]),
        ([99, 99, 100.99, 100.99], [99, 99, 100, 100]),
    ],
)
def test_a_box_less_than_a_pixel_beyond_the_image_is_clipped(scene, beyond, clipped):
    answer = scene.select(Boxes([[0, 0, 50, 100], beyond]))
    assert answer == scene.select(Boxes([[0, 0, 50, 100], clipped])) and len(answer) == 2


def test_prompts_are_joined_and_their_numbers_go_on(scene):
    answer = scene.select(
        [Points([[70, 50], [15, 25]], mode="each"), Boxes([[10, 20, 30, 40]]), Points([[5, 5]]), Everything()]
    )
    assert answer.prompts.tolist() == [0, 1, 2, 3, -1, -1, -1, -1]
    assert len(scene.select([Boxes([10, 20, 30, 40])])) == 1
    with pytest.raises(PromptError, match="no prompts"):
        scene.select([])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Points([]), "at least one"),
        (lambda: Points([[1, 2, 3]]), r"\[\[x, y\]"),
        (lambda: Points([["a", "b"]]), "not numbers"),
        (lambda: Points([[1, np.nan]]), "not finite"),
        (lambda: Points([[1, 2]], [1, 0]), "one label for each"),
        (lambda: Points([[1, 2]], [2]), "1 .foreground. or 0"),
        (lambda: Points([[1, 2]], mode="best"), "merge, each, all"),
        (lambda: Boxes([]), "at least one"),
        (lambda: Boxes([[1, 2, 3]]), "x1, y1, x2, y2"),
        (lambda: Boxes([[5, 5, 5, 9]]), "x2 > x1"),
        (lambda: Boxes([[5, 5, 1, 9]]), "x2 > x1"),
        (lambda: Boxes([[1, 1, np.inf, 9]]), "not finite"),
    ],
)
def test_prompts_that_make_no_sense_are_refused_when_made(make, says):
    with pytest.raises(PromptError, match=says):
        make()


def test_cleaning_closes_gaps_opens_specks_and_never_empties():
    mask = np.zeros((80, 80), np.bool_)
    mask[20:60, 20:60] = True
    mask[30, 30] = False
    mask[5:8, 5:8] = True
    cleaned = clean_mask(mask)
    assert cleaned[30, 30] and not cleaned[5:8, 5:8].any()
    assert (np.argwhere(cleaned) >= 20).all() and (np.argwhere(cleaned) < 60).all() and cleaned.sum() == 1600
    speck = np.zeros((80, 80), np.bool_)
    speck[4, 4] = True
    np.testing.assert_array_equal(clean_mask(speck), speck)


def test_cleaning_a_crop_is_cleaning_the_whole_image():
    rng = np.random.default_rng(1)
    for _ in range(20):
        blobs = cv2.GaussianBlur(rng.standard_normal((90, 110)), (0, 0), 5) > 0.02
        blobs[:, : rng.integers(0, 40)] = False
        masks = Masks.from_dense(blobs[None])
        one = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
        y, x = np.argwhere(blobs)[0]
        np.testing.assert_array_equal(one.select(Points([[x, y]])).masks.dense()[0], clean_mask(blobs))


def test_thousands_of_points_are_one_look_up(scene):
    grid = np.stack(np.meshgrid(np.arange(0, 100, 1.5), np.arange(0, 100, 1.5)), -1).reshape(-1, 2)
    answer = scene.select(Points(grid, mode="each"))
    assert (
        len(answer) == len(grid)
        and (answer.scores == np.where(grid[:, 0] < 50, np.float32(0.8), np.float32(0.9))).all()
    )
