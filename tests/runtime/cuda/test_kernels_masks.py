"""masks.cu against the CPU runtime's assemble, and against the same formula in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastsam_deploy.runtime.cuda.records import boxes_of, refuse_nonfinite
from fastsam_deploy.runtime.errors import ModelError
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.assemble import assemble
from fastsam_deploy.runtime.stages.letterbox import Letterbox, Resampling, fit, fit_rectangle, mask_resampling

DIM = 8
SPEC = ModelSpec(layout="nms", mask_dim=DIM, class_names=("object",))


def _rows(boxes: np.ndarray, place: Letterbox, rng: np.random.Generator) -> np.ndarray:
    """(1, n, 6 + DIM) output of the layout "nms" whose boxes are those, given in pixels of the image."""
    corners = place.to_input(boxes.reshape(-1, 2)).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(boxes))[:, None]
    columns = [corners, scores, np.zeros((len(boxes), 1)), rng.standard_normal((len(boxes), DIM))]
    return np.concatenate(columns, 1).astype(np.float32)[None]


def _boxes(rng: np.random.Generator, count: int, hw: tuple[int, int]) -> np.ndarray:
    """(count, 4), some over the border; the first is the whole image, the second has no pixel."""
    corners = np.sort(rng.random((count, 2, 2)) * 1.2 - 0.1, axis=1).reshape(count, 4) * (*hw[::-1], *hw[::-1])
    corners[0] = (-5, -5, hw[1] + 5, hw[0] + 5)
    if count > 1:
        corners[1] = (hw[1] / 2 + 0.1, 0, hw[1] / 2 + 0.1, hw[0])
    return corners


def _smooth(rng: np.random.Generator, hw: tuple[int, int]) -> np.ndarray:
    """(1, DIM, *hw) prototypes: coarse noise, magnified, as blobs are."""
    coarse = rng.standard_normal((DIM, hw[0] // 4 + 2, hw[1] // 4 + 2)).astype(np.float32)
    return np.repeat(np.repeat(coarse, 4, 1), 4, 2)[None, :, : hw[0], : hw[1]].copy()


def _run(host: Any, places: list[Letterbox], output: np.ndarray, prototypes: np.ndarray, **more: Any) -> Any:
    pixels = [np.zeros((*place.image_hw, 3), np.uint8) for place in places]
    blocks = more.pop("blocks", 8)
    spec = more.pop("spec", SPEC)
    asked, size = more.pop("asked", Thresholds(0.1, 0.7)), more.pop("batch", None)
    batch = host.Batch(host.library.kernels(blocks), spec, pixels, places, asked, size)
    return batch.finish(output, prototypes, **more)


def _dense(axis: Resampling, prototypes: int) -> np.ndarray:
    """(side, prototypes) float64: the share of every prototype in every pixel."""
    matrix = np.zeros((len(axis.first), prototypes))
    np.put_along_axis(matrix, axis.first[:, None] + np.arange(3), axis.shares, axis=1)
    return matrix


def _agrees(answer: Any, image: int, prototypes: np.ndarray, place: Letterbox) -> tuple[int, int]:
    """Masks are the twin's but where the logit, in float64, is as good as 0; (differing, all) pixels."""
    rows = answer.rows(image)
    coefficients, boxes = answer.coefficients[image, : len(rows)], boxes_of(rows)
    masks = answer.masks(image, place.image_hw)
    twin = assemble(coefficients, prototypes, boxes, place)
    np.testing.assert_array_equal(masks.corners_xy, twin.corners_xy)
    prototypes_hw = (prototypes.shape[1], prototypes.shape[2])
    vertical, horizontal = map(_dense, mask_resampling(place, prototypes_hw), prototypes_hw)
    planes = prototypes.astype(np.float64)
    differing = 0
    for mask, other, weights, (x, y) in zip(masks.crops, twin.crops, coefficients, masks.corners_xy, strict=True):
        assert mask.shape == other.shape
        if not mask.size:
            continue
        height, width = mask.shape
        logits = vertical[y : y + height] @ np.tensordot(weights, planes, 1) @ horizontal[x : x + width].T
        doubtful = np.abs(logits) < 1e-6 * np.tensordot(np.abs(weights), np.abs(planes).max((1, 2)), 1)
        assert ((mask == (logits > 0)) | doubtful).all()
        differing += np.count_nonzero(mask != other)
    np.testing.assert_array_equal(masks.areas, [np.count_nonzero(crop) for crop in masks.crops])
    return differing, sum(crop.size for crop in masks.crops)


@pytest.mark.parametrize("name", ["coffee", "cat"])
@pytest.mark.parametrize(("imgsz", "dtype"), [(320, "float32"), (320, "float16"), (640, "float32")], ids=str)
def test_the_demo_network_on_photographs(
    host: Any, network: Any, answers: Callable[..., Any], name: str, imgsz: int, dtype: str
):
    _, place, output, prototypes = answers(name, imgsz)
    prototypes = prototypes.astype(dtype)
    asked = Thresholds(0.2, 0.7, 300)
    answer = _run(host, [place], output, prototypes, spec=network.spec, asked=asked, blocks=64)
    assert len(answer.rows(0)) > 8
    differing, pixels = _agrees(answer, 0, prototypes[0], place)
    assert differing <= pixels * 1e-5
    masks = answer.masks(0, place.image_hw)
    twin = assemble(answer.coefficients[0, : len(masks)], prototypes[0], boxes_of(answer.rows(0)), place)
    ious = [
        np.count_nonzero(a & b) / max(np.count_nonzero(a | b), 1)
        for a, b, area in zip(masks.crops, twin.crops, twin.areas, strict=True)
        if area
    ]
    assert np.mean(ious) >= 0.9999 and min(ious) >= 0.999


@pytest.mark.parametrize(
    "hw", [(1, 1), (1, 50), (50, 1), (31, 33), (33, 31), (32, 64), (7, 130), (129, 33), (300, 200)], ids=str
)
def test_edge_sizes(host: Any, order: int, hw: tuple[int, int]):
    for place in (fit_rectangle(hw, 96), fit(hw, (64, 96))):
        rng = np.random.default_rng(hw[0])
        prototypes = _smooth(rng, (place.input_hw[0] // 4, place.input_hw[1] // 4))
        output = _rows(_boxes(rng, 6, hw), place, rng)
        answer = _run(host, [place], output, prototypes)
        assert len(answer.rows(0)) == 6
        _agrees(answer, 0, prototypes[0], place)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 260), st.integers(1, 260), st.sampled_from([32, 64, 160, 320]), st.booleans(), st.integers(0, 2**31)
)
def test_random_sizes(host: Any, h: int, w: int, imgsz: int, rect: bool, seed: int):
    place = fit_rectangle((h, w), imgsz) if rect else fit((h, w), (imgsz, imgsz))
    rng = np.random.default_rng(seed)
    prototypes = _smooth(rng, (place.input_hw[0] // 4, place.input_hw[1] // 4))
    answer = _run(host, [place], _rows(_boxes(rng, 3, (h, w)), place, rng), prototypes)
    _agrees(answer, 0, prototypes[0], place)


def test_a_thumbnail_under_many_prototypes(host: Any):
    """A tile depends on more of them than fit into shared memory: strips of several rows, of one, and none at all."""
    rng = np.random.default_rng(1)
    for hw, side in [((20, 300), 1024), ((60, 60), 1024), ((8, 60), 2560)]:
        place, prototypes = fit(hw, (side, side)), _smooth(rng, (side // 4, side // 4))
        answer = _run(host, [place], _rows(_boxes(rng, 3, hw), place, rng), prototypes)
        _agrees(answer, 0, prototypes[0], place)


def test_300_detections_touching_the_border(host: Any, order: int):
    hw = (60, 90)
    place = fit(hw, (96, 96))
    rng = np.random.default_rng(2)
    boxes = _boxes(rng, 300, hw)
    boxes[2::3, 2:] = (90, 60)
    boxes[3::3, :2] = 0
    prototypes = _smooth(rng, (24, 24))
    answer = _run(host, [place], _rows(boxes, place, rng), prototypes, blocks=7)
    assert len(answer.rows(0)) == 300
    _agrees(answer, 0, prototypes[0], place)


def test_crops_lie_one_after_the_other_over_the_whole_batch(host: Any, order: int):
    places = [fit(hw, (64, 64)) for hw in ((40, 64), (33, 100), (90, 20))]
    rng = np.random.default_rng(3)
    output = np.concatenate([_rows(_boxes(rng, 9, place.image_hw), place, rng) for place in places])
    output[1, :, 4] = 0  # nothing in the second image
    prototypes = np.concatenate([_smooth(rng, (16, 16)) for _ in places])
    answer = _run(host, places, output, prototypes)
    rows = np.concatenate([answer.rows(0), answer.rows(2)])
    assert len(answer.rows(1)) == 0 and len(rows) == 18
    np.testing.assert_array_equal(rows["pitch"], -(-rows["width"] // 32))
    ends = np.cumsum(rows["pitch"].astype(np.int64) * rows["height"])
    np.testing.assert_array_equal(rows["first_word"], np.concatenate(([0], ends[:-1])))
    assert answer.total_words == ends[-1]
    for image in (0, 2):
        _agrees(answer, image, prototypes[image], places[image])


def test_bits_past_the_width_are_zero(host: Any):
    place = fit((10, 40), (64, 64))
    rng = np.random.default_rng(4)
    output = _rows(np.array([[0, 0, 40, 10]]), place, rng)
    output[..., 6:] = 1
    answer = _run(host, [place], output, np.ones((1, DIM, 16, 16), np.float32))
    assert answer.words.tolist() == [0xFFFFFFFF, 0xFF] * 10
    assert answer.rows(0)["area"].tolist() == [400]


@pytest.mark.parametrize("missing", [1, 20, 10_000])
def test_what_does_not_fit_is_not_written_and_the_need_is_told(host: Any, missing: int):
    """Memory past the capacity is watched by the test's memory; the total is that of all masks."""
    place = fit((60, 90), (96, 96))
    rng = np.random.default_rng(5)
    output, prototypes = _rows(_boxes(rng, 12, (60, 90)), place, rng), _smooth(rng, (24, 24))
    whole = _run(host, [place], output, prototypes)
    capacity = max(whole.total_words - missing, 1)
    cut = _run(host, [place], output, prototypes, word_capacity=capacity)
    assert cut.total_words == whole.total_words
    ends = whole.rows(0)["first_word"] + whole.rows(0)["pitch"] * whole.rows(0)["height"]
    written = int(ends[ends <= capacity].max(initial=0))
    np.testing.assert_array_equal(cut.words[:written], whole.words[:written])
    assert (cut.words[written:] == 0xA5A5A5A5).all()
    np.testing.assert_array_equal(cut.rows(0)["area"], np.where(ends <= capacity, whole.rows(0)["area"], 0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_prototypes_that_are_not_finite_are_refused(host: Any, value: float):
    place = fit((40, 64), (64, 64))
    rng = np.random.default_rng(6)
    prototypes = _smooth(rng, (16, 16))
    prototypes[0, DIM - 1, 15, 15] = value
    output = _rows(_boxes(rng, 2, (40, 64)), place, rng)
    for dtype in ("float32", "float16"):
        answer = _run(host, [place], output, prototypes.astype(dtype))
        with pytest.raises(ModelError, match="prototypes hold NaN or infinity"):
            refuse_nonfinite(int(answer.summaries["flags"][0]))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_batch_of_16(host: Any, dtype: str):
    """Images of many sizes, one of them without a detection, and rows past the group."""
    rng = np.random.default_rng(8)
    places = [fit((20 + 7 * i, 110 - 6 * i), (64, 64)) for i in range(15)]
    output = np.concatenate([_rows(_boxes(rng, 12, place.image_hw), place, rng) for place in [*places, places[0]]])
    output[4, :, 4] = 0
    prototypes = np.concatenate([_smooth(rng, (16, 16)) for _ in range(16)]).astype(dtype)
    answer = _run(host, places, output, prototypes, batch=16)
    counts = [len(answer.rows(image)) for image in range(16)]
    assert counts == [0 if image in (4, 15) else 12 for image in range(16)]
    for image, place in enumerate(places):
        _agrees(answer, image, prototypes[image], place)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_large_image(host: Any, dtype: str):
    """24 MP: words and tiles are counted far past 16 bits."""
    hw = (4000, 6000)
    place = fit_rectangle(hw, 640)
    rng = np.random.default_rng(7)
    prototypes = _smooth(rng, (place.input_hw[0] // 4, place.input_hw[1] // 4)).astype(dtype)
    answer = _run(host, [place], _rows(_boxes(rng, 3, hw), place, rng), prototypes, blocks=512)
    _agrees(answer, 0, prototypes[0], place)


def test_a_model_with_too_many_coefficients_is_refused():
    from fastsam_deploy.runtime.cuda.shapes import Shapes

    with pytest.raises(ModelError, match="257 mask coefficients, the CUDA kernels take 1 to 256"):
        Shapes(1, (64, 64), "nms", 300, 263, 1, 257, (16, 16), 300)
