"""candidates.cu and nms.cu against the CPU runtime's decode, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastsam_deploy.runtime.cuda.records import boxes_of, refuse_nonfinite
from fastsam_deploy.runtime.errors import ModelError
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.decode import MAX_CANDIDATES, decode
from fastsam_deploy.runtime.stages.letterbox import fit

PLACE = fit((90, 64), (64, 64))
DIM = 4


def _spec(classes: int = 1, layout: str = "raw") -> ModelSpec:
    return ModelSpec(layout=layout, class_names=tuple(map(str, range(classes))), mask_dim=DIM)


def _raw(rng: np.random.Generator, anchors: int, classes: int = 1, crowded: bool = True) -> np.ndarray:
    """(4 + nc + DIM, anchors) as a network gives them: many anchors on few objects, many low scores, equal ones too."""
    centres = rng.random((max(anchors // 8, 1) if crowded else anchors, 2)) * 64
    which = rng.integers(0, len(centres), anchors)
    boxes = np.concatenate([centres[which] + rng.normal(0, 2, (anchors, 2)), 8 + rng.random((anchors, 2)) * 30], 1)
    scores = rng.random((anchors, classes)).round(2)
    return np.concatenate([boxes, scores, rng.standard_normal((anchors, DIM))], 1).T.astype(np.float32)


def _batch(host: Any, spec: ModelSpec, thresholds: Thresholds, images: int, size: int | None = None) -> Any:
    pixels = [np.zeros((*PLACE.image_hw, 3), np.uint8)] * images
    return host.Batch(host.library.kernels(blocks=16), spec, pixels, [PLACE] * images, thresholds, size)


def _prototypes(count: int, dim: int = DIM) -> np.ndarray:
    return np.ones((count, dim, 16, 16), np.float32)


def _agrees(answer: Any, image: int, output: np.ndarray, spec: ModelSpec, asked: Thresholds, place: Any = PLACE) -> int:
    """The device's detections of an image are those of the twin; their number."""
    expected = decode(output, spec, asked)
    rows = answer.rows(image)
    assert len(rows) == len(expected.scores)
    refuse_nonfinite(int(answer.summaries["flags"][image]))
    np.testing.assert_array_equal(rows["score"], expected.scores)
    np.testing.assert_array_equal(rows["class_id"], expected.classes)
    np.testing.assert_array_equal(answer.coefficients[image, : len(rows)], expected.coefficients)
    kept = answer.kept[image, : len(rows)]
    inputs = np.stack([kept[name] for name in ("x1", "y1", "x2", "y2")], 1)
    np.testing.assert_array_equal(inputs, expected.boxes_xyxy)
    boxes = place.boxes_to_image(expected.boxes_xyxy)
    np.testing.assert_array_equal(boxes_of(rows), boxes)
    corners = np.ceil(boxes).astype(int)
    np.testing.assert_array_equal(np.stack([rows["left"], rows["top"]], 1), corners[:, :2])
    sizes = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    np.testing.assert_array_equal(np.stack([rows["width"], rows["height"]], 1), sizes)
    assert (rows["image"] == image).all()
    return len(rows)


@pytest.mark.parametrize("name", ["coffee", "cat"])
@pytest.mark.parametrize(("conf", "iou"), [(0.4, 0.9), (0.05, 0.7), (0.001, 0.5)], ids=str)
def test_the_demo_network_on_photographs(
    host: Any, network: Any, answers: Callable[..., Any], name: str, conf: float, iou: float
):
    image, place, output, prototypes = answers(name, 320)
    asked = Thresholds(conf, iou, 300)
    answer = host.Batch(host.library.kernels(64), network.spec, [image], [place], asked).finish(output, prototypes)
    assert _agrees(answer, 0, output[0], network.spec, asked, place) > 3


@pytest.mark.parametrize("anchors", [1, 31, 32, 33, 255, 256, 257, 1000])
@pytest.mark.parametrize("classes", [1, 3])
def test_counts_around_the_sizes_of_blocks(host: Any, order: int, anchors: int, classes: int):
    output = _raw(np.random.default_rng(anchors), anchors, classes)
    asked = Thresholds(0.001, 0.6, 300)
    answer = _batch(host, _spec(classes), asked, 1).finish(output[None], _prototypes(1))
    _agrees(answer, 0, output, _spec(classes), asked)
    assert answer.summaries["candidates"][0] == np.count_nonzero(output[4 : 4 + classes].max(0) > np.float32(0.001))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 700),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.3, 0.5, 0.99]),
    st.sampled_from([1e-9, 0.3, 0.7, 0.9, 1.0]),
    st.sampled_from([1, 5, 300]),
)
def test_random_outputs(host: Any, seed: int, anchors: int, classes: int, conf: float, iou: float, max_det: int):
    output = _raw(np.random.default_rng(seed), anchors, classes)
    asked = Thresholds(conf, iou, max_det)
    answer = _batch(host, _spec(classes), asked, 1).finish(output[None], _prototypes(1))
    _agrees(answer, 0, output, _spec(classes), asked)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("bins", "strides", "classes"), [(16, (8, 16, 32), 1), (26, (8, 16, 32), 3), (1, (4, 32), 1)])
def test_boxes_from_distributions(host: Any, bins: int, strides: tuple[int, ...], classes: int, dtype: str):
    spec = replace(_spec(classes), layout="distributions", bins=bins, strides=strides)
    rng, asked = np.random.default_rng(bins), Thresholds(0.3, 0.7, 300)
    anchors = sum((64 // stride) ** 2 for stride in strides)
    sides = rng.normal(0, 3, (2, 4 * bins, anchors)) if bins > 1 else rng.random((2, 4, anchors)) * 3
    rest = rng.random((2, classes, anchors)), rng.standard_normal((2, DIM, anchors))
    output = np.concatenate((sides, *rest), 1).astype(dtype)
    answer = _batch(host, spec, asked, 2).finish(output, _prototypes(2))
    for image in range(2):
        expected = decode(output[image], spec, asked, (64, 64))
        rows = answer.rows(image)
        assert len(rows) == len(expected.scores) > 10
        np.testing.assert_array_equal(rows["score"], expected.scores)
        np.testing.assert_array_equal(rows["class_id"], expected.classes)
        np.testing.assert_array_equal(answer.coefficients[image, : len(rows)], expected.coefficients)
        kept = answer.kept[image, : len(rows)]
        boxes = np.stack([kept[name] for name in ("x1", "y1", "x2", "y2")], 1)
        np.testing.assert_allclose(boxes, expected.boxes_xyxy, atol=1e-3)  # exp differs in its last bits


def test_more_strides_than_the_kernels_take_are_refused(host: Any):
    spec = replace(_spec(), layout="distributions", bins=1, strides=(2, 4, 8, 16, 32))
    output = np.zeros((1, 5 + DIM, 32**2 + 16**2 + 8**2 + 4**2 + 2**2), np.float32)
    with pytest.raises(ModelError, match="5 strides, the CUDA kernels take 4"):
        _batch(host, spec, Thresholds(), 1).finish(output, _prototypes(1))


def test_no_detections(host: Any):
    output = _raw(np.random.default_rng(0), 100)
    output[4] = 0.25  # not above
    answer = _batch(host, _spec(), Thresholds(0.25, 0.7), 1).finish(output[None], _prototypes(1))
    assert answer.summaries[0].tolist() == (0, 0, 0, 0)
    assert answer.total_words == 0


def test_a_long_chain_of_overlaps(host: Any, order: int):
    """Each box overlaps its neighbours only: every second one is kept, decided one after the other."""
    anchors = 600
    output = np.zeros((4 + 1 + DIM, anchors), np.float32)
    output[0] = 10 + 4 * np.arange(anchors)
    output[1], output[2], output[3] = 30, 10, 10
    output[4] = np.linspace(0.9, 0.5, anchors)
    asked = Thresholds(0.4, 0.3, 1000)
    answer = _batch(host, _spec(), asked, 1).finish(output[None], _prototypes(1))
    assert _agrees(answer, 0, output, _spec(), asked) == anchors / 2


@pytest.mark.parametrize("max_det", [299, 300, 301, 513])
def test_more_than_one_chunk_is_kept(host: Any, max_det: int):
    output = _raw(np.random.default_rng(5), 900, crowded=False)
    asked = Thresholds(0.1, 1.0, max_det)
    answer = _batch(host, _spec(), asked, 1).finish(output[None], _prototypes(1))
    assert _agrees(answer, 0, output, _spec(), asked) == max_det


def test_suppression_by_hundreds_of_kept_boxes(host: Any, order: int):
    """More are kept than a block looks at in one go, and late candidates are dropped by early ones."""
    output = _raw(np.random.default_rng(8), 1500, crowded=False)
    output[:2] *= 12
    asked = Thresholds(0.0, 0.1, 1000)
    answer = _batch(host, _spec(), asked, 1).finish(output[None], _prototypes(1))
    assert 512 < _agrees(answer, 0, output, _spec(), asked) < 1000


def test_an_overlap_of_just_the_threshold_is_no_more_than_it(host: Any):
    output = np.zeros((5 + DIM, 2), np.float32)
    output[:5] = [[8, 8], [8, 12], [16, 16], [16, 8], [0.9, 0.8]]  # the second is the lower half of the first
    for iou, kept in ((0.5, 2), (0.4999999, 1)):
        asked = Thresholds(0.4, iou)
        answer = _batch(host, _spec(), asked, 1).finish(output[None], _prototypes(1))
        assert _agrees(answer, 0, output, _spec(), asked) == kept


def test_equal_boxes_with_equal_scores_keep_the_first(host: Any, order: int):
    output = np.tile(np.array([[20], [20], [10], [10], [0.5], *[[1]] * DIM], np.float32), (1, 300))
    output[5] = np.arange(300)
    answer = _batch(host, _spec(), Thresholds(0.4, 0.9), 1).finish(output[None], _prototypes(1))
    assert answer.rows(0)["anchor"].tolist() == [0]
    assert answer.coefficients[0, 0, 0] == 0


def test_boxes_without_area_do_not_suppress(host: Any):
    output = _raw(np.random.default_rng(3), 64)
    output[2:4, ::2] = 0
    output[:2] = output[:2].round(-1)
    asked = Thresholds(0.1, 0.5, 300)
    answer = _batch(host, _spec(), asked, 1).finish(output[None], _prototypes(1))
    _agrees(answer, 0, output, _spec(), asked)


def test_at_most_30000_candidates_the_best(host: Any):
    anchors = MAX_CANDIDATES + 3000
    output = _raw(np.random.default_rng(2), anchors, crowded=False)
    output[4] = np.random.default_rng(2).permutation(anchors) / np.float32(2 * anchors) + np.float32(0.1)
    output[0] = np.where(output[4] < np.sort(output[4])[3000], 1e6, output[0])  # far off, so never suppressed
    asked = Thresholds(0.05, 0.01, 300)
    answer = _batch(host, _spec(), asked, 1).finish(output[None], _prototypes(1))
    assert answer.summaries["candidates"][0] == anchors
    assert _agrees(answer, 0, output, _spec(), asked) < 300
    assert answer.sorted["score"][0, -1] == np.sort(output[4])[3000]
    assert not (answer.rows(0)["x1"] > 1e5).any()


def test_each_image_has_its_own_row_and_rows_past_the_group_are_left_alone(host: Any):
    rng = np.random.default_rng(7)
    outputs = np.stack([_raw(rng, 300) for _ in range(4)])
    outputs[3] = np.nan  # past the group: nobody looks at it
    prototypes = _prototypes(4)
    prototypes[3] = np.inf
    asked = Thresholds(0.3, 0.6, 50)
    answer = _batch(host, _spec(), asked, 3, size=4).finish(outputs, prototypes)
    for image in range(3):
        assert _agrees(answer, image, outputs[image], _spec(), asked) > 0
    assert answer.summaries[3].tolist() == (0, 0, 0, 0)


def test_half_precision_outputs(host: Any):
    output = _raw(np.random.default_rng(11), 500, 2).astype(np.float16)
    asked = Thresholds(0.25, 0.6, 300)
    answer = _batch(host, _spec(2), asked, 1).finish(output[None], _prototypes(1).astype(np.float16))
    assert _agrees(answer, 0, output, _spec(2), asked) > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("row", "name"), [(4, "scores"), (0, "boxes"), (3, "boxes"), (5, "coefficients")])
def test_numbers_that_are_not_finite_are_refused(host: Any, value: float, row: int, name: str):
    output = _raw(np.random.default_rng(0), 40)
    output[4, 7] = 2.0  # kept for certain, and first
    output[row, 7] = value
    asked = Thresholds(0.4, 0.6)
    with pytest.raises(ModelError):
        decode(output, _spec(), asked)
    answer = _batch(host, _spec(), asked, 1).finish(output[None], _prototypes(1))
    with pytest.raises(ModelError, match=f"network's .*{name}.* hold NaN or infinity"):
        refuse_nonfinite(int(answer.summaries["flags"][0]))


def test_an_infinite_score_of_another_class_hides_nothing(host: Any):
    output = _raw(np.random.default_rng(0), 40, 3)
    output[5] = -np.inf  # below every threshold, and finite scores beside it: the twin takes it too
    asked = Thresholds(0.4, 0.6)
    answer = _batch(host, _spec(3), asked, 1).finish(output[None], _prototypes(1))
    _agrees(answer, 0, output, _spec(3), asked)
    output[5, 3] = np.nan
    answer = _batch(host, _spec(3), asked, 1).finish(output[None], _prototypes(1))
    assert answer.summaries["flags"][0] == 1


def _rows(rng: np.random.Generator, count: int, filled: int) -> np.ndarray:
    """(count, 6 + DIM) of the layout "nms"; rows past `filled` are zero."""
    corners = np.sort(rng.random((count, 2, 2)) * 64, axis=1).reshape(count, 4)
    scores = np.sort(rng.random(count))[::-1]
    columns = [corners, scores[:, None], rng.integers(0, 5, (count, 1)), rng.standard_normal((count, DIM))]
    rows = np.concatenate(columns, 1).astype(np.float32)
    rows[filled:] = 0
    return rows


@pytest.mark.parametrize(("count", "filled"), [(1, 0), (1, 1), (31, 9), (256, 256), (300, 33), (700, 600)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_outputs_that_are_suppressed_already(host: Any, order: int, count: int, filled: int, dtype: str):
    rows = np.stack([_rows(np.random.default_rng(seed), count, filled) for seed in (1, 2)]).astype(dtype)
    asked = Thresholds(0.25, 0.7, 280)
    spec = _spec(5, "nms")
    answer = _batch(host, spec, asked, 2).finish(rows, _prototypes(2))
    for image in range(2):
        _agrees(answer, image, rows[image], spec, asked)


@pytest.mark.parametrize(("column", "row"), [(4, 200), (0, 0), (5, 0), (7, 0)])
def test_suppressed_outputs_that_are_not_finite_are_refused(host: Any, column: int, row: int):
    rows = _rows(np.random.default_rng(1), 300, 100)
    rows[row, column] = np.nan
    spec, asked = _spec(5, "nms"), Thresholds(0.0, 0.7)
    with pytest.raises(ModelError):
        decode(rows, spec, asked)
    answer = _batch(host, spec, asked, 1).finish(rows[None], _prototypes(1))
    with pytest.raises(ModelError, match="hold NaN or infinity"):
        refuse_nonfinite(int(answer.summaries["flags"][0]))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_split_layout_becomes_rows(host: Any, dtype: str):
    from fastsam_deploy.runtime.cuda import launchers

    rows = np.stack([_rows(np.random.default_rng(seed), 33, 20) for seed in (1, 2, 3)]).astype(dtype)
    parts = [rows[..., :4], rows[..., 4], rows[..., 5].astype(np.int32), rows[..., 6:]]
    memory = host.Memory()
    outputs = [memory.of(np.ascontiguousarray(part)) for part in parts]
    joined = memory.empty(rows.shape, np.float32)
    shapes = launchers.Shapes(3, (64, 64), "split", 33, 6 + DIM, 5, DIM, (16, 16), 300)
    addresses = tuple(part.ctypes.data for part in outputs)
    kernels = host.library.kernels()
    launchers.join_rows(kernels, shapes, addresses, dtype == "float16", joined.ctypes.data, None)
    memory.check()
    np.testing.assert_array_equal(joined, rows.astype(np.float32))


@pytest.mark.parametrize(
    ("output", "prototypes", "found"),
    [
        (((1, 9, 84), "float32"), ((1, DIM, 16, 15), "float32"), r"\(1, 4, 16, 15\)"),
        (((1, 8, 84), "float32"), ((1, DIM, 16, 16), "float32"), r"\(…, 8, 84\).*expected 9 values"),
        (((2, 9, 84), "float32"), ((1, DIM, 16, 16), "float32"), r"\(2, 9, 84\)"),
        (((1, 9, 84), "int8"), ((1, DIM, 16, 16), "float32"), "output0 is int8"),
    ],
)
def test_outputs_of_other_shapes_are_refused(output: Any, prototypes: Any, found: str):
    from fastsam_deploy.runtime.cuda.shapes import Shapes

    with pytest.raises(ModelError, match=found):
        Shapes.of(_spec(), (1, 3, 64, 64), output, prototypes, 300)


def test_launches_depend_on_shapes_alone(host: Any):
    """A captured graph replays the same launches, whatever is in the images."""
    launches = []
    for anchors_above in (0, 1, 500):
        output = _raw(np.random.default_rng(1), 600)
        output[4, anchors_above:] = 0
        del host.library.launches[:]
        _batch(host, _spec(), Thresholds(), 1).finish(output[None], _prototypes(1), word_capacity=1 << 16)
        launches.append(list(host.library.launches))
    assert launches[0] == launches[1] == launches[2]
    assert len(launches[0]) == 8
