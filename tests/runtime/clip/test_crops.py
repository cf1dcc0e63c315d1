"""Crops of masks: whole objects, nothing of their neighbours; where asked, equal to the model's own preparation."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime.clip.crops import (
    BACKGROUNDS,
    RESIZES,
    crop_pixels,
    mask_crops,
    near_duplicates,
    patch_shares,
    whole_image,
)
from fastsam_deploy.runtime.clip.spec import ImageInput
from fastsam_deploy.runtime.masks.store import Masks
from fastsam_deploy.runtime.stages.image import load_image
from fastsam_deploy.runtime.stages.letterbox import fit

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
B32 = ImageInput("image.onnx", (224, 224), MEAN, STD, "bicubic", "shortest_crop", True)
SQUASH = ImageInput("image.onnx", (256, 256), (0.5,) * 3, (0.5,) * 3, "bilinear", "squash", False)
SHAPES = [(1, 1), (2, 300), (300, 2), (40, 60), (224, 224), (500, 333), (333, 500), (1000, 80), (901, 1200), (3, 700)]


@pytest.fixture(scope="module")
def photo(coffee) -> NDArray[np.uint8]:
    return cv2.resize(load_image(coffee), (1500, 1000), interpolation=cv2.INTER_CUBIC)


def _blots(hw: tuple[int, int], seed: int = 0) -> NDArray[np.bool_]:
    """A mask with inner and outer edges in every shape."""
    coarse = np.random.default_rng(seed).random((5, 5)).astype(np.float32)
    mask = cv2.resize(coarse, hw[::-1], interpolation=cv2.INTER_CUBIC) > 0.45
    mask[hw[0] // 2, hw[1] // 2] = True
    return mask


def _painted(region: NDArray[np.uint8], mask: NDArray[np.bool_], color: int) -> Image.Image:
    return Image.fromarray(np.where(mask[..., None], region, np.uint8(color)))


@pytest.mark.parametrize(
    ("settings", "background", "color"), [(B32, "black", 0), (B32, "white", 255), (SQUASH, "white", 255)]
)
def test_reference_is_what_torchvision_makes_of_the_painted_crop(photo, settings, background, color):
    filter_ = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[settings.interpolation]
    side = settings.size_hw[0]
    for h, w in SHAPES:
        region, mask = photo[:h, :w], _blots((h, w))
        whole = _painted(region, mask, color)
        if settings.resize == "squash":
            expected = whole.resize((side, side), filter_)
        else:
            wide, tall = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
            left, top = round((wide - side) / 2), round((tall - side) / 2)
            expected = whole.resize((wide, tall), filter_).crop((left, top, left + side, top + side))
        found = crop_pixels(region, mask, settings, background, "reference")
        assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1, (h, w)


@pytest.mark.export
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_reference_is_open_clips_preparation(photo, mode):
    open_clip = pytest.importorskip("open_clip")
    prepare = open_clip.image_transform(
        224, is_train=False, mean=MEAN, std=STD, resize_mode=mode, interpolation="bicubic"
    )
    settings = replace(B32, resize={"shortest": "shortest_crop", "squash": "squash"}[mode])
    for h, w in SHAPES:
        masks = Masks.from_crops((1000, 1500), (np.ones((h, w), np.bool_),), np.array([[7, 9]]) * (h < 900))
        x, y = masks.corners_xy[0]
        expected = prepare(Image.fromarray(photo[y : y + h, x : x + w])).numpy()
        found = mask_crops(photo, masks, settings, resize="reference")[0]
        assert (np.abs(found - expected).max(axis=(1, 2)) <= 1.01 / 255 / np.array(STD)).all(), (h, w)


def test_letterbox_shows_all_of_long_objects(photo):
    region = np.zeros((60, 1200, 3), np.uint8)
    region[:, :20], region[:, -20:] = (250, 0, 0), (0, 0, 250)
    mask = np.ones(region.shape[:2], np.bool_)
    boxed = crop_pixels(region, mask, B32, "white")
    assert boxed[112, 1].tolist() == [250, 0, 0] and boxed[112, -2].tolist() == [0, 0, 250]
    assert (boxed[:100] == 255).all() and (boxed[-100:] == 255).all()
    cut = crop_pixels(region, mask, B32, "white", "reference")
    assert cut.max() == 0, "the model's own preparation cuts the ends off"


@pytest.mark.parametrize("hw", SHAPES)
def test_letterbox_is_nearly_pillows(photo, hw):
    """Halving first changes single levels inside, and some more at hard edges of a mask; below 4 x it is not done."""
    region, mask = photo[: hw[0], : hw[1]], _blots(hw)
    place = fit(hw, B32.size_hw)
    (height, width), (left, top) = place.content_hw, place.pad_xy
    expected = Image.new("RGB", (224, 224), (0, 0, 0))
    expected.paste(_painted(region, mask, 0).resize((width, height), Image.Resampling.BICUBIC), (left, top))
    off = np.abs(crop_pixels(region, mask, B32, "black").astype(int) - np.asarray(expected))
    assert off.mean() < 0.5
    assert off.max() <= (0 if max(hw) < 4 * 224 else 40)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("background", BACKGROUNDS[:3])
def test_nothing_of_the_neighbours_is_seen(photo, background, resize):
    """Neighbours inside a box crop win: ul#23765."""
    region, mask = photo[20:970, 50:1450], _blots((950, 1400))
    other = np.where(mask[..., None], region, np.uint8(255) - region)
    found = crop_pixels(region, mask, B32, background, resize)
    assert (found == crop_pixels(other, mask, B32, background, resize)).all()


def test_blurred_context_has_the_neighbours_colours_only(photo):
    region = np.full((300, 300, 3), (200, 30, 30), np.uint8)
    region[::2] = (0, 30, 30)  # stripes of a pixel: gone when blurred
    mask = np.zeros((300, 300), np.bool_)
    mask[100:200, 100:200] = True
    found = crop_pixels(region, mask, B32, "blur").astype(int)
    assert np.abs(found[:60] - (100, 30, 30)).max() <= 2
    tall = crop_pixels(photo[:800, :100], np.zeros((800, 100), np.bool_), B32, "blur")
    assert (tall[:, 0] == tall[:, 90]).all(), "the padding goes on with the colours at the edge"


def test_channels_are_red_green_blue_and_normalised():
    """Swapped channels: CASIA's text prompt."""
    image = np.full((30, 40, 3), (255, 0, 51), np.uint8)
    masks = Masks.from_dense(np.ones((1, 30, 40)))
    blob = mask_crops(image, masks, SQUASH, resize="reference")
    assert blob.dtype == np.float32 and blob.shape == (1, 3, 256, 256)
    np.testing.assert_allclose(blob[0, :, 5, 5], [1, -1, -0.6], atol=1e-6)
    mean = mask_crops(image, Masks.from_crops((30, 40), (np.zeros((9, 9), np.bool_),), np.zeros((1, 2), np.int64)), B32)
    assert np.abs(mean).max() < 0.5 / 255 / min(STD), "the background is the model's mean colour"


def test_each_mask_gets_its_own_place(photo):
    masks = Masks.from_crops((1000, 1500), (np.ones((20, 30), np.bool_),) * 2, np.array([[40, 50], [700, 3]]))
    blob = mask_crops(photo, masks, B32)
    for row, (x, y) in zip(blob, masks.corners_xy.tolist(), strict=True):
        alone = crop_pixels(photo[y : y + 20, x : x + 30], None, B32) / 255.0
        np.testing.assert_allclose(row, ((alone - MEAN) / STD).transpose(2, 0, 1), atol=1e-5)
    assert mask_crops(photo, masks[[]], B32).shape == (0, 3, 224, 224)


def test_extreme_shapes_stay_small(photo):
    line = np.zeros((2, 40_000, 3), np.uint8)
    tracemalloc.start()
    for resize in RESIZES:
        for background in ("mean", "blur"):
            crop_pixels(line, np.ones((2, 40_000), np.bool_), B32, background, resize)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_patch_shares_are_areas():
    """Against a loop over pixels and patches, on an image that is made larger and one that is made smaller."""
    for hw, grid in (((20, 33), (4, 4)), ((70, 30), (2, 2)), ((9, 9), (3, 3))):
        rng = np.random.default_rng(0)
        dense = rng.random((3, *hw)) < 0.4
        masks, place = Masks.from_dense(dense), fit(hw, (32, 32))
        expected = np.zeros((3, *grid))
        (top, left), patch = place.pad_xy[::-1], 32 / grid[0]
        down, across = place.content_hw[0] / hw[0], place.content_hw[1] / hw[1]
        for k, y, x in np.argwhere(dense):
            for i in range(grid[0]):
                for j in range(grid[1]):
                    high = min(top + (y + 1) * down, (i + 1) * patch) - max(top + y * down, i * patch)
                    wide = min(left + (x + 1) * across, (j + 1) * patch) - max(left + x * across, j * patch)
                    expected[k, i, j] += max(high, 0) * max(wide, 0)
        expected /= expected.sum((1, 2), keepdims=True)
        np.testing.assert_allclose(patch_shares(masks, place, grid).reshape(3, *grid), expected, atol=1e-5)


def test_patches_of_padding_count_nothing():
    masks = Masks.from_dense(np.ones((1, 100, 400)))
    shares = patch_shares(masks, fit((100, 400), (64, 64)), (4, 4)).reshape(4, 4)
    np.testing.assert_allclose(shares.sum(1), [0, 0.5, 0.5, 0], atol=1e-6)
    assert patch_shares(masks[[]], fit((100, 400), (64, 64)), (4, 4)).shape == (0, 16)


def test_the_whole_image_is_letterboxed(photo):
    blob = whole_image(photo, B32)
    place = fit((1000, 1500), (224, 224))
    top, height = place.pad_xy[1], place.content_hw[0]
    exact = np.asarray(Image.fromarray(photo).resize((224, height), Image.Resampling.BICUBIC)) / 255.0
    found = blob[0].transpose(1, 2, 0) * STD + MEAN
    assert np.abs(found[top : top + height] - exact).mean() < 0.5 / 255
    assert np.abs(found[:top] - MEAN).max() < 0.6 / 255


def _squares(*ltrb: tuple[int, int, int, int]) -> Masks:
    dense = np.zeros((len(ltrb), 200, 200), np.bool_)
    for mask, (left, top, right, bottom) in zip(dense, ltrb, strict=True):
        mask[top:bottom, left:right] = True
    return Masks.from_dense(dense)


@pytest.mark.parametrize(
    ("boxes", "first"),
    [
        pytest.param([], [], id="none"),
        pytest.param([(0, 0, 100, 100), (0, 0, 100, 96)], [0, 0], id="0.96"),
        pytest.param([(0, 0, 100, 100), (0, 0, 100, 94)], [0, 1], id="0.94"),
        pytest.param([(0, 0, 100, 100), (50, 50, 150, 150), (0, 0, 100, 100)], [0, 1, 0], id="one between"),
        pytest.param([(0, 0, 100, 100), (0, 0, 100, 96), (0, 0, 100, 92)], [0, 0, 2], id="likeness is not passed on"),
        pytest.param([(0, 0, 100, 100), (100, 100, 200, 200)], [0, 1], id="same size elsewhere"),
    ],
)
def test_near_duplicates(boxes, first):
    assert near_duplicates(_squares(*boxes), 0.95).tolist() == first


def test_masks_of_one_box_are_no_duplicates():
    """A frame and the picture in it share a box and not a pixel."""
    dense = np.zeros((2, 100, 100), np.bool_)
    dense[0] = True
    dense[0, 5:95, 5:95] = False
    dense[1] = ~dense[0]
    dense[1, [0, -1], [0, -1]] = True
    assert near_duplicates(Masks.from_dense(dense), 0.8).tolist() == [0, 1]
