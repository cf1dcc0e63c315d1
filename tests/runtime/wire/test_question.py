"""What is asked of an image travels as JSON: nothing is lost, and nothing that is sent can be a bug of ours."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_deploy.runtime import (
    Boxes,
    Everything,
    FastSamError,
    ImageError,
    Masks,
    ParameterError,
    Points,
    PromptError,
    Segments,
    Thresholds,
)
from fastsam_deploy.runtime.prompts.kinds import is_registered
from fastsam_deploy.runtime.wire.question import MASK_FORMATS, Limits, Question

LIMITS = Limits()
HEIGHT, WIDTH = 40, 60

xs, ys = st.floats(0, WIDTH - 0.001), st.floats(0, HEIGHT - 0.001)


@st.composite
def points(draw: st.DrawFn) -> Points:
    xy = draw(st.lists(st.tuples(xs, ys), min_size=1, max_size=6))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(xy), max_size=len(xy)))
    return Points(xy, labels, draw(st.sampled_from(("merge", "each", "all"))), draw(st.booleans()))


@st.composite
def boxes(draw: st.DrawFn) -> Boxes:
    corners = draw(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 30)), min_size=1, max_size=6))
    return Boxes([(x, y, x + draw(st.floats(2, 9)), y + draw(st.floats(2, 9))) for x, y in corners])


thresholds = st.builds(
    Thresholds,
    conf=st.floats(0, 1, exclude_max=True),
    iou=st.floats(0, 1, exclude_min=True),
    max_det=st.integers(1, LIMITS.max_det),
)
prompts = st.one_of(points(), boxes(), st.just(Everything()))
questions = st.builds(Question, st.lists(prompts, max_size=4).map(tuple), thresholds, st.sampled_from(MASK_FORMATS))


@given(questions)
def test_a_question_comes_back_from_its_text(question: Question):
    found = Question.from_json(question.to_json(), LIMITS)
    assert found.thresholds == question.thresholds
    assert found.masks == question.masks
    for one, other in zip(found.prompts, question.prompts, strict=True):
        assert type(one) is type(other)
        for name, value in vars(other).items():
            np.testing.assert_array_equal(getattr(one, name), value)


def test_every_key_may_be_left_out():
    assert Question.from_json("{}", LIMITS) == Question()
    (found,) = Question.from_json('{"prompts": [{"points": [3, 4]}]}', LIMITS).prompts
    assert (found.labels.all(), found.mode, found.clean) == (True, "merge", True)
    assert Question.from_json(b'{"prompts": [{"points": [3, 4], "labels": null}], "max_det": 5.0}', LIMITS)


# Everything that JSON can hold, and the keys that mean something.
_KEYS = st.sampled_from(
    "prompts points boxes text everything labels mode clean conf iou max_det masks x".split()  # noqa: SIM905
)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 2),
    st.floats(),
    st.just(10**400),
    st.text(max_size=5),
    st.sampled_from(["merge", "each", "rle", "1"]),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=20,
)
_ALMOST = st.fixed_dictionaries({}, optional={
    "prompts": st.lists(st.fixed_dictionaries({}, optional={
        "points": st.one_of(_VALUES, st.lists(st.lists(st.floats() | st.integers(), min_size=2, max_size=2))),
        "boxes": st.one_of(_VALUES, st.lists(st.lists(st.floats() | st.integers(), min_size=4, max_size=4))),
        "text": _VALUES | st.lists(st.text(max_size=3)), "min_area_px": _LEAVES, "duplicate_iou": _LEAVES,
        "everything": _LEAVES, "labels": _VALUES, "mode": _LEAVES, "clean": _LEAVES,
    }), max_size=3),
    "conf": _LEAVES, "iou": _LEAVES, "max_det": _LEAVES, "masks": _LEAVES,
})  # fmt: skip


@settings(max_examples=400)
@given(st.one_of(_VALUES, _ALMOST).map(json.dumps) | st.text(max_size=20) | st.binary(max_size=20))
def test_whatever_is_sent_is_a_question_or_an_error_of_ours(text: str | bytes):
    with contextlib.suppress(FastSamError):
        Question.from_json(text, LIMITS).select_from(Segments.empty((HEIGHT, WIDTH)), LIMITS)


@pytest.mark.parametrize("depth", [40, 70, 500, 900, 980, 1000, 100_000])
def test_deep_nesting(depth: int):
    """NumPy counts 32 or 64 dimensions, Python 1000 levels; neither may end in another kind of error."""
    nested = "[" * depth + "]" * depth
    for text in (
        "NESTED",
        '{"conf": NESTED}',
        '{"prompts": NESTED}',
        '{"prompts": [{"points": NESTED}]}',
        '{"prompts": [{"points": [[1, 1]], "labels": NESTED}]}',
        '{"prompts": [{"points": [[1, 1]], "mode": NESTED}]}',
    ):
        with pytest.raises(FastSamError):
            Question.from_json(text.replace("NESTED", nested), LIMITS)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"Prompts": []}, "unknown key 'Prompts'; known keys are prompts, conf, iou, max_det, masks"),
        ({"prompts": [{"points": [[1, 1]], "label": [1]}]}, "points: unknown key 'label'"),
        ({"prompts": [{"boxes": [[1, 1, 9, 9]], "mode": "each"}]}, "boxes: unknown key 'mode'"),
        ({"prompts": [{"everything": True, "clean": True}]}, "everything: unknown key 'clean'"),
        ({"prompts": [{"points": [[1, 1]], "boxes": [[1, 1, 9, 9]]}]}, "a prompt is"),
        ({"prompts": [{"everything": False}]}, "everything is False, expected true"),
        ({"prompts": [{"points": [[1, 1]], "clean": "no"}]}, "clean is 'no', expected true or false"),
    ],
    ids=str,
)
def test_what_would_be_ignored_is_refused(asked: dict[str, Any], says: str):
    with pytest.raises(PromptError, match=says):
        Question.from_json(json.dumps(asked), LIMITS)


def test_limits_of_a_question():
    few = Limits(prompts=5, groups=2, segments=3, max_det=10)
    point = {"points": [[1, 1]]}
    for asked in ({"prompts": [point, point]}, {"prompts": [{"points": [[1, 1]] * 5}]}, {"max_det": 10}):
        Question.from_json(json.dumps(asked), few)
    assert Question.from_json("{}", few).thresholds.max_det == 10, "who asks for no number gets what there is"
    for asked, says in (
        ({"prompts": [point] * 3}, "3 prompts for one image, the server takes 2"),
        ({"prompts": [{"points": [[1, 1]] * 6}]}, "6 points.* for one image, the server takes 5"),
        ({"prompts": [point, {"boxes": [[1, 1, 9, 9]] * 5}]}, "6 points"),
    ):
        with pytest.raises(PromptError, match=says):
            Question.from_json(json.dumps(asked), few)
    with pytest.raises(ParameterError, match="max_det is 11, the server gives at most 10"):
        Question.from_json('{"max_det": 11}', few)


def test_limit_of_an_answer():
    two = Segments.unprompted(
        np.ones((2, 4), np.float32), np.ones(2, np.float32), np.ones(2, np.int64), Masks.from_dense(np.ones((2, 4, 5)))
    )
    assert len(Question().select_from(two, Limits(segments=2))) == 2
    with pytest.raises(PromptError, match="the answer has 4 segments, the server gives at most 3"):
        Question((Everything(), Everything())).select_from(two, Limits(segments=3))


def test_limits_of_an_image():
    small = Limits(image_bytes=10, pixels=12)
    assert small.check_bytes(b"0123456789") == b"0123456789"
    with pytest.raises(ImageError, match="has 11 bytes, the server takes 10"):
        small.check_bytes(b"0123456789+")
    assert small.check_pixels(np.zeros((3, 4, 3), np.uint8)).shape == (3, 4, 3)
    with pytest.raises(ImageError, match="PIXELS is 5×3, the server takes 12 pixels"):
        small.check_pixels(np.zeros((3, 5, 3), np.uint8))


@dataclass(frozen=True)
class Largest:
    """A prompt of a caller's own kind."""

    prompt_count = 1

    def select_from(self, segments: Segments) -> Segments:
        return segments[segments.areas.argmax()]


def test_prompts_of_other_kinds_are_not_sent():
    assert is_registered(Points([[1, 1]]))
    assert not is_registered(Largest())
    with pytest.raises(PromptError, match="type Largest cannot be sent"):
        Question((Largest(),)).to_json()
