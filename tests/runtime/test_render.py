"""Pictures: what is on top, what stays untouched, and that it is quick."""

from __future__ import annotations

import io
from pathlib import Path
from time import process_time

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime.errors import FastSamError, ParameterError
from fastsam_deploy.runtime.masks.store import Masks
from fastsam_deploy.runtime.prompts.boxes import Boxes
from fastsam_deploy.runtime.prompts.everything import Everything
from fastsam_deploy.runtime.prompts.points import Points
from fastsam_deploy.runtime.render import (
    cutout,
    distinct_colors,
    draw_prompts,
    draw_segments,
    mask_image,
    save_image,
)
from fastsam_deploy.runtime.segments import Segments
from fastsam_deploy.runtime.stages.image import load_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def segments_of(*masks: NDArray[np.bool_]) -> Segments:
    stored = Masks.from_dense(np.stack(masks))
    n = len(stored)
    return Segments.unprompted(stored.boxes_xyxy(), np.ones(n, np.float32), np.zeros(n, np.int64), stored)


def rectangle(left: int, top: int, right: int, bottom: int, image_hw: tuple[int, int] = (60, 80)) -> NDArray[np.bool_]:
    mask = np.zeros(image_hw, np.bool_)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def image() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]], ids=["large first", "small first"])
def test_the_smaller_mask_is_on_top_whatever_the_order(image: NDArray[np.uint8], order: list[int]) -> None:
    large, small = rectangle(10, 10, 70, 50), rectangle(30, 20, 40, 30)
    found = segments_of(large, small)[order]
    colors = np.array([RED, BLUE])[order]
    drawn = draw_segments(image, found, alpha=1, contours=False, colors=colors)
    assert (drawn[small] == BLUE).all()
    assert (drawn[large & ~small] == RED).all()
    assert np.array_equal(drawn[~large], image[~large])


@pytest.mark.parametrize("contours", [False, True])
def test_nothing_outside_the_masks_changes_and_the_input_stays(image: NDArray[np.uint8], contours: bool) -> None:
    before = image.copy()
    masks = [rectangle(0, 0, 30, 30), rectangle(70, 50, 80, 60), rectangle(3, 3, 4, 4)]
    drawn = draw_segments(image, segments_of(*masks), alpha=0.45, contours=contours)
    outside = ~np.any(masks, axis=0)
    assert np.array_equal(image, before)
    assert np.array_equal(drawn[outside], image[outside])
    assert (drawn[~outside] != image[~outside]).any()


def test_alpha_mixes_image_and_colour(image: NDArray[np.uint8]) -> None:
    everywhere = segments_of(rectangle(0, 0, 80, 60))
    assert np.array_equal(draw_segments(image, everywhere, alpha=0, contours=False), image)
    mixed = draw_segments(image, everywhere, alpha=0.25, contours=False, colors=RED)
    assert np.abs(mixed - (0.75 * image + 0.25 * np.array(RED))).max() <= 0.5


def test_contours_lie_inside_their_mask_in_its_full_colour(image: NDArray[np.uint8]) -> None:
    mask = rectangle(20, 10, 60, 50)
    drawn = draw_segments(image, segments_of(mask), alpha=0, contours=True, colors=BLUE)
    edge = mask & ~rectangle(21, 11, 59, 49)
    assert (drawn[edge] == BLUE).all()
    assert np.array_equal(drawn[~edge], image[~edge])


def test_no_segments_give_the_image(image: NDArray[np.uint8]) -> None:
    drawn = draw_segments(image, Segments.empty((60, 80)))
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_more_segments_than_colours_fit_in_8_bits(image: NDArray[np.uint8]) -> None:
    masks = [rectangle(i % 80, i // 80, i % 80 + 1, i // 80 + 1) for i in range(600)]
    drawn = draw_segments(image, segments_of(*masks), alpha=1, contours=False)
    tinted = np.any(masks, axis=0)
    assert np.array_equal(drawn[tinted][:255], distinct_colors(255))
    assert np.array_equal(drawn[~tinted], image[~tinted])


def test_colours_are_distinct_and_stable() -> None:
    colors = distinct_colors(60)
    assert len(np.unique(colors, axis=0)) == 60
    assert np.array_equal(distinct_colors(10), colors[:10])
    assert not np.array_equal(distinct_colors(10, seed=1), colors[:10])
    assert distinct_colors(0).shape == (0, 3)
    neighbours = np.linalg.norm(np.diff(colors.astype(float), axis=0), axis=1)
    assert neighbours.min() > 60, "two colours in a row look alike"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"alpha": 1.5}, r"alpha is 1\.5", id="alpha"),
        pytest.param({"colors": [[1, 2]]}, r"colors have shape \(1, 2\)", id="two channels"),
        pytest.param({"colors": [300, 0, 0]}, r"in 0 … 255", id="too bright"),
    ],
)
def test_wrong_settings(image: NDArray[np.uint8], settings: dict[str, float], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        draw_segments(image, segments_of(rectangle(0, 0, 9, 9)), **settings)  # type: ignore[arg-type]


def test_an_image_of_another_size_is_refused(image: NDArray[np.uint8]) -> None:
    found = segments_of(rectangle(0, 0, 9, 9))
    for wrong in (image[:-1], image[..., 0], image.astype(np.float32)):
        with pytest.raises(ParameterError, match=r"the segments are of an image of uint8 \(60, 80, 3\)"):
            draw_segments(wrong, found)  # type: ignore[arg-type]


def test_prompts_are_marked_where_they_are() -> None:
    gray = np.full((200, 300, 3), 128, np.uint8)
    drawn = draw_prompts(gray, [Points([[50, 60], [150.5, 60]], [1, 0]), Boxes([[200, 50, 280, 150]]), Everything()])
    assert (gray == 128).all()
    red, green, blue = (drawn[..., i].astype(int) for i in range(3))
    assert green[60, 50] > red[60, 50] + 50, "a foreground point is green"
    assert red[60, 150] > green[60, 150] + 50, "a background point is red"
    for x, y in ((200, 100), (279, 100), (240, 50), (240, 149)):
        assert red[y, x] > blue[y, x] + 50, f"the box's line passes ({x}, {y})"
    assert (drawn[90:110, 230:250] == 128).all(), "the box is not filled"
    assert np.array_equal(draw_prompts(gray, None), gray)


def test_prompts_at_the_very_border_can_be_drawn() -> None:
    tiny = np.zeros((9, 17, 3), np.uint8)
    drawn = draw_prompts(tiny, [Points([[0, 0], [16.99, 8.99]]), Boxes([[0, 0, 17, 9]])])
    assert drawn.shape == tiny.shape
    assert drawn.any()


def test_a_cutout_is_transparent_outside_the_mask(image: NDArray[np.uint8]) -> None:
    mask = rectangle(20, 10, 40, 30)
    mask[10:15, 20:25] = False
    found = segments_of(rectangle(0, 0, 3, 3), mask)
    alone = cutout(image, found, 1)
    assert alone.shape == (20, 20, 4)
    inside = mask[10:30, 20:40]
    assert np.array_equal(alone[..., 3] == 255, inside)
    assert np.array_equal(alone[inside][:, :3], image[mask])
    assert not alone[~inside].any(), "hidden pixels would leak the picture"


def test_a_cutout_is_cut_to_the_mask_not_to_its_crop(image: NDArray[np.uint8]) -> None:
    crop = np.zeros((30, 30), np.bool_)
    crop[5:10, 7:20] = True
    masks = Masks.from_crops((60, 80), (crop,), np.array([[10, 20]]))
    found = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
    assert np.array_equal(cutout(image, found, 0)[..., :3], image[25:30, 17:30])


def test_a_mask_without_a_pixel_has_no_cutout(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ParameterError, match="segment 0 has no pixel"):
        cutout(image, segments_of(np.zeros((60, 80), np.bool_)), 0)


def test_mask_images_are_black_and_white() -> None:
    mask = rectangle(20, 10, 40, 30)
    assert np.array_equal(mask_image(segments_of(mask), 0), mask * np.uint8(255))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_files_hold_the_very_pixels(tmp_path: Path, image: NDArray[np.uint8], channels: int) -> None:
    pixels = {1: image[..., 0], 3: image, 4: np.dstack([image, image[..., 0]])}[channels]
    save_image(tmp_path / "x.png", pixels)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), pixels)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"], "a temporary file is left"


def test_jpeg_files_have_the_right_colours(tmp_path: Path) -> None:
    save_image(tmp_path / "x.JPG", np.full((16, 16, 3), (200, 100, 20), np.uint8))
    assert np.abs(load_image(tmp_path / "x.JPG").astype(int) - (200, 100, 20)).max() <= 3


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        pytest.param("x.gif", 3, r"suffix '\.gif', expected one of", id="unknown suffix"),
        pytest.param("x.jpg", 4, "JPEG has no transparency", id="alpha in JPEG"),
        pytest.param("none/x.png", 3, "cannot be written", id="no such folder"),
    ],
)
def test_files_that_cannot_be_written(tmp_path: Path, name: str, channels: int, message: str) -> None:
    with pytest.raises(FastSamError, match=message):
        save_image(tmp_path / name, np.zeros((4, 4, channels), np.uint8))
    assert not list(tmp_path.iterdir())


# CASIA #230: drawing took 300 ms.
def test_an_overlay_of_60_masks_on_3_megapixels_takes_milliseconds() -> None:
    rng = np.random.default_rng(1)
    crops, corners = [], []
    for width, height in rng.integers(30, 900, (60, 2)).tolist():
        disc = np.zeros((height, width), np.uint8)
        cv2.ellipse(disc, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 1, -1)
        crops.append(disc.astype(np.bool_))
        corners.append((rng.integers(0, 1500 - width), rng.integers(0, 2000 - height)))
    masks = Masks.from_crops((2000, 1500), tuple(crops), np.array(corners, np.int64))
    found = Segments.unprompted(masks.boxes_xyxy(), np.ones(60, np.float32), np.zeros(60, np.int64), masks)
    image = np.zeros((2000, 1500, 3), np.uint8)
    seconds = []
    for _ in range(5):
        start = process_time()  # of the processors: other tests run beside it
        draw_segments(image, found)
        seconds.append(process_time() - start)
    assert min(seconds) < 0.1, "10 to 15 ms were measured on two cores"


def test_a_written_file_is_readable_by_others(tmp_path: Path, image: NDArray[np.uint8]) -> None:
    save_image(tmp_path / "x.webp", image)
    assert Image.open(io.BytesIO((tmp_path / "x.webp").read_bytes())).format == "WEBP"
    assert (tmp_path / "x.webp").stat().st_mode & 0o400
