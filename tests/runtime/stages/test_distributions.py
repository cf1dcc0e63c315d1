"""Boxes from distributions, against the definition in double precision, one anchor at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_deploy.runtime.errors import ModelError, ParameterError
from fastsam_deploy.runtime.settings import Thresholds
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.stages.decode import decode
from fastsam_deploy.runtime.stages.distributions import as_raw, boxes_of


def _spec(bins: int = 16, strides: tuple[int, ...] = (8, 16, 32), **more: object) -> ModelSpec:
    return ModelSpec(layout="distributions", bins=bins, strides=strides, mask_dim=2, **more)  # type: ignore[arg-type]


def _output(seed: int, spec: ModelSpec, input_hw: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    anchors = sum(input_hw[0] // stride * (input_hw[1] // stride) for stride in spec.strides)
    logits = rng.normal(0, 3, (4 * spec.bins, anchors))
    scores = rng.random((spec.class_count, anchors))
    return np.concatenate((logits, scores, rng.normal(0, 1, (2, anchors)))).astype(np.float32)


def _box(values: np.ndarray, bins: int, anchor: int, input_hw: tuple[int, int], strides: tuple[int, ...]) -> np.ndarray:
    """cx, cy, w, h of one anchor by the definition."""
    first = anchor
    for stride in strides:
        columns, cells = input_hw[1] // stride, input_hw[0] // stride * (input_hw[1] // stride)
        if first < cells:
            break
        first -= cells
    x, y = first % columns + 0.5, first // columns + 0.5
    distances = []
    for side in values[: 4 * bins].astype(np.float64).reshape(4, bins):
        shares = np.exp(side - side.max())
        distances.append(side[0] if bins == 1 else (shares * np.arange(bins)).sum() / shares.sum())
    left, top, right, bottom = distances
    x1, y1, x2, y2 = x - left, y - top, x + right, y + bottom
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]) * stride


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 16, 26]),
    st.sampled_from([(8, 16, 32), (32,), (4, 8, 16, 32)]),
    st.sampled_from([(64, 96), (32, 32), (160, 64)]),
)
def test_boxes_are_those_of_the_definition(
    seed: int, bins: int, strides: tuple[int, ...], input_hw: tuple[int, int]
) -> None:
    spec = _spec(bins, strides)
    output = _output(seed, spec, input_hw)
    columns = np.random.default_rng(seed).permutation(output.shape[1])[:50]
    boxes = boxes_of(output, columns, spec, input_hw)
    expected = [_box(output[:, column], bins, column, input_hw, strides) for column in columns]
    np.testing.assert_allclose(boxes, expected, atol=2e-3, rtol=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
def test_detections_are_those_of_the_decoded_file(classes: int) -> None:
    spec = _spec(class_names=tuple("abc"[:classes]))
    output, input_hw = _output(0, spec, (160, 96)), (160, 96)
    decoded = ModelSpec(mask_dim=2, class_names=spec.class_names)
    for thresholds in (Thresholds(0.5, 0.7, 300), Thresholds(0.99, 0.5, 3), Thresholds(0.9999999)):
        detections = decode(output, spec, thresholds, input_hw)
        expected = decode(as_raw(output[None], spec, input_hw)[0], decoded, thresholds)
        for name in ("boxes_xyxy", "scores", "classes", "coefficients"):
            np.testing.assert_array_equal(getattr(detections, name), getattr(expected, name))


def test_half_precision_outputs_are_decoded_in_single() -> None:
    spec, input_hw = _spec(), (64, 64)
    output = _output(1, spec, input_hw).astype(np.float16)
    columns = np.arange(output.shape[1])
    expected = boxes_of(output.astype(np.float32), columns, spec, input_hw)
    np.testing.assert_array_equal(boxes_of(output, columns, spec, input_hw), expected)


def test_what_does_not_fit_is_refused() -> None:
    spec = _spec()
    output = _output(0, spec, (64, 64))
    with pytest.raises(ParameterError, match="pass input_hw"):
        decode(output, spec, Thresholds())
    with pytest.raises(ModelError, match=r"gave 84 anchors for an input of 96 x 64, expected 126"):
        decode(output, spec, Thresholds(conf=0.5), (96, 64))
    output[0, output[64].argmax()] = np.nan
    with pytest.raises(ModelError, match="NaN or infinite"):
        decode(output, spec, Thresholds(conf=0.1), (64, 64))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"bins": 0}, "bins is 0, expected a whole number from 1 to 1024"),
        ({"bins": True}, "bins is True"),
        ({"bins": 1 << 40}, "bins is 1099511627776"),
        ({"strides": ()}, r"strides are \(\), expected 1 to 8 divisors of the stride 32"),
        ({"strides": (8, 12)}, "divisors of the stride 32"),
        ({"strides": (0,)}, "divisors of the stride 32"),
        ({"strides": (8,) * 9}, "expected 1 to 8"),
        ({"strides": ("8",)}, "divisors of the stride 32"),
    ],
)
def test_a_spec_that_cannot_be_decoded_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        ModelSpec(**{"layout": "distributions", "bins": 16, "strides": (8, 16, 32), **given})  # type: ignore[arg-type]


def test_the_spec_survives_its_json() -> None:
    spec = _spec(bins=26)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert "bins" not in ModelSpec().to_json()
