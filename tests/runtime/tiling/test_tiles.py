"""A real network on a mosaic of photographs: tiles find what the photographs alone give; the whole image does not."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.runtime import FastSAM, FastSamError, Points, Segments, Text, Thresholds, Tiles, load_image
from fastsam_deploy.runtime.masks.overlap import mask_ious
from fastsam_deploy.runtime.tiling.merge import placed
from fastsam_deploy.runtime.tiling.run import segment_tiles

TINY_CLIP = Path(__file__).resolve().parents[2] / "data/clip-tiny"


@pytest.fixture(scope="module")
def model():
    with FastSAM() as opened:
        yield opened


@pytest.fixture(scope="module")
def mosaic(coffee: Path, cat: Path) -> tuple[NDArray[np.uint8], list[NDArray[np.int64]]]:
    """Eight photographs side by side, 1800 x 600, and where each is."""
    photos = [load_image(path)[:300, :450] for path in (coffee, cat)]
    image = np.zeros((600, 1800, 3), np.uint8)
    places = []
    for i in range(8):
        photo = photos[(i + i // 4) % 2][:, :: 1 - 2 * (i // 4 % 2)]
        left, top = i % 4 * 450, i // 4 * 300
        image[top : top + 300, left : left + 450] = photo
        places.append(np.array([left, top, left + 450, top + 300]))
    return image, places


def _share_found(answer: Segments, singles: Segments) -> float:
    return float((mask_ious(singles.masks, answer.masks).max(1, initial=0) >= 0.5).mean())


@pytest.fixture(scope="module")
def tiled(model: FastSAM, mosaic) -> Segments:
    return model.segment(mosaic[0], tiles=Tiles(450, merge_iou=0.9))


def test_tiles_find_what_single_photographs_give(model: FastSAM, mosaic, tiled: Segments):
    image, places = mosaic
    hw = image.shape[:2]
    alone = [placed(model.segment(image[y1:y2, x1:x2].copy()), box, hw) for box in places for x1, y1, x2, y2 in [box]]
    shares = [_share_found(tiled, segments) for segments in alone]
    whole = model.segment(image)
    whole_shares = [_share_found(whole, segments) for segments in alone]
    assert np.mean(shares) > 0.8 and np.mean(whole_shares) < 0.3


def test_prompts_select_from_the_merged_segments(model: FastSAM, mosaic, tiled: Segments):
    image, _ = mosaic
    points = Points([[225, 150], [1575, 450]], mode="each")
    selected = tiled.select(points)
    assert selected.prompts.tolist() == [0, 1]
    assert selected == model.segment(image, points, tiles=Tiles(450, merge_iou=0.9))
    for i, (x, y) in enumerate(((225, 150), (1575, 450))):
        assert selected.masks.full(i)[y, x]


def test_the_answer_is_the_same_each_time_and_in_order(model: FastSAM, mosaic):
    image, _ = mosaic
    first, second = (model.segment(image, tiles=640) for _ in range(2))
    assert first == second and (np.diff(first.scores) <= 0).all()
    assert {"engine", "merge", "load", "prompt"} <= set(first.timing_ms)
    boxes = first.boxes_xyxy
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (1800, 600)).all()


def test_an_image_that_fits_into_a_tile_is_not_cut(model: FastSAM, coffee: Path):
    assert model.segment(coffee, tiles=Tiles()) == model.segment(coffee)
    assert model.segment(coffee, tiles=600) == model.segment(coffee)


def test_images_are_kept_and_read_as_without_tiles(model: FastSAM, mosaic):
    image, _ = mosaic
    bgr = np.ascontiguousarray(image[:600, :900, ::-1])
    kept = model.segment(bgr, color="BGR", tiles=450, keep_image=True)
    assert kept.image is not None
    np.testing.assert_array_equal(kept.image, image[:600, :900])
    assert kept == model.segment(image[:600, :900].copy(), tiles=450)


def test_a_stream_takes_tiles(model: FastSAM, mosaic, coffee: Path):
    image = mosaic[0][:600, :900].copy()
    items = list(model.segment_stream([image, "absent.jpg", coffee], tiles=450, keep_images=True))
    assert items[0].segments == model.segment(image, tiles=450)
    np.testing.assert_array_equal(items[0].image, image)
    assert isinstance(items[1].error, FastSamError)
    assert items[2].segments == model.segment(coffee, tiles=450)


def test_text_prompts_look_at_the_whole_image(coffee: Path):
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    with FastSAM(clip=TINY_CLIP) as model:
        segments = model.segment(coffee, tiles=Tiles(400, overlap=0.25), thresholds=Thresholds(0.6))
        selected = model.segment(coffee, Text("a cup"), tiles=Tiles(400, overlap=0.25), thresholds=Thresholds(0.6))
        assert len(selected) == 1 and selected == segments.select(Text("a cup"))
    np.testing.assert_array_equal(selected.plot(), selected.plot(load_image(coffee)))  # a CLIP has the image


def test_memory_does_not_grow_with_the_number_of_tiles(model: FastSAM):
    """A blank image has no segments: what is left are tiles."""

    def peak(side: int) -> int:
        image = np.full((side, side, 3), 114, np.uint8)
        tracemalloc.start()
        segment_tiles(model._segmenter, image, Thresholds(), Tiles(320, overlap=0, whole=False))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    small, large = peak(640), peak(1280)  # 4 and 16 tiles
    assert large < small * 1.3 + 1e6
