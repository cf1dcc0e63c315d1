"""What travels back from a server: nothing is lost on the way, and what does not fit together is refused."""

from __future__ import annotations

import re
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_deploy.runtime import (
    FastSamError,
    ImageError,
    Masks,
    ModelError,
    ParameterError,
    PromptError,
    Segments,
)
from fastsam_deploy.runtime.network import TensorInfo
from fastsam_deploy.runtime.wire import tensors as wire_tensors
from fastsam_deploy.runtime.wire.answer import (
    OUTPUTS,
    answer_tensors,
    answers_from_tensors,
    error_from_text,
    error_text,
)
from fastsam_deploy.runtime.wire.question import MASK_FORMATS
from fastsam_deploy.runtime.wire.tensors import ANSWER, QUESTION

HEIGHT, WIDTH = 40, 60


@st.composite
def answers(draw: st.DrawFn) -> Segments:
    """Segments with crops of every kind: empty, one pixel, the whole image."""
    count = draw(st.integers(0, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    crops, corners = [], []
    for _ in range(count):
        y, x = draw(st.integers(0, HEIGHT)), draw(st.integers(0, WIDTH))
        crops.append(random.random((draw(st.integers(0, HEIGHT - y)), draw(st.integers(0, WIDTH - x)))) > 0.5)
        corners.append((x, y))
    found = Segments.unprompted(
        random.random((count, 4), np.float32) * HEIGHT,
        random.random(count, np.float32),
        random.integers(0, 80, count),
        Masks.from_crops((HEIGHT, WIDTH), tuple(crops), np.array(corners, np.int64).reshape(-1, 2)),
        tuple(map(str, range(80))),
    )
    return found.answering(np.arange(count), random.random(count)) if draw(st.booleans()) else found


def _assert_equal(found: Segments, wanted: Segments) -> None:
    assert found.image_hw == wanted.image_hw
    assert found.class_names == wanted.class_names
    for name in ("boxes_xyxy", "scores", "classes", "prompts", "fits"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found.masks.corners_xy, wanted.masks.corners_xy)
    for one, other in zip(found.masks.crops, wanted.masks.crops, strict=True):
        np.testing.assert_array_equal(one, other)


@given(answers())
def test_an_answer_comes_back_from_its_bits(answer: Segments):
    (found,) = answers_from_tensors(answer_tensors([answer], ["bits"]), answer.class_names)
    _assert_equal(found, answer)


@settings(max_examples=60)
@given(st.lists(answers(), min_size=1, max_size=3), st.lists(st.sampled_from(MASK_FORMATS), min_size=3, max_size=3))
def test_an_answer_has_a_limit(several: list[Segments], kinds: list[str]):
    """To the byte, as Triton counts them: each element of BYTES has four bytes in front."""
    kinds = kinds[: len(several)]
    tensors = answer_tensors(several, kinds)
    fixed = sum(values.nbytes for name, values in tensors.items() if name != "MASKS")
    size = fixed + sum(4 + len(text) for text in tensors["MASKS"].ravel())
    assert answer_tensors(several, kinds, size).keys() == tensors.keys()
    with pytest.raises(PromptError, match=f"the server gives at most {size - 1:,}; ask for less"):
        answer_tensors(several, kinds, size - 1)


def test_a_large_answer_is_refused_before_it_is_made():
    """The same masks again and again: hardly any memory here, half a gigabyte as an answer."""
    noise = np.random.default_rng(0).random((300, 400)) > 0.5
    masks = Masks.from_crops((300, 400), [noise], np.zeros((1, 2), np.int64))
    row = Segments.unprompted(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), masks, ("",))
    many = row[np.zeros(8000, np.int64)]
    tracemalloc.start()
    for kind in ("bits", "rle"):
        with pytest.raises(PromptError, match="bytes or more"):
            answer_tensors([many], [kind], 1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@settings(max_examples=30)
@given(st.lists(answers(), min_size=1, max_size=3))
def test_answers_of_several_images_share_their_tensors(several: list[Segments]):
    tensors = answer_tensors(several, ["bits"] * len(several))
    assert tuple(tensors) == OUTPUTS
    most = max(map(len, several))
    assert all(values.shape[:2] == (len(several), most) for name, values in tensors.items() if name in OUTPUTS[2:])
    for found, wanted in zip(answers_from_tensors(tensors, several[0].class_names), several, strict=True):
        _assert_equal(found, wanted)


@given(answers())
def test_masks_as_rle(answer: Segments):
    tensors = answer_tensors([answer], ["rle"])
    rles = [{"size": [HEIGHT, WIDTH], "counts": counts.decode("ascii")} for counts in tensors["MASKS"][0]]
    found = Masks.from_rle(rles, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(found.dense(), answer.masks.dense())
    np.testing.assert_array_equal(tensors["AREAS"][0], answer.areas)


def test_no_masks_and_rows_past_the_count():
    one = Segments.unprompted(
        np.ones((1, 4), np.float32), np.ones(1, np.float32), np.ones(1, np.int64), Masks.from_dense(np.ones((1, 4, 5)))
    )
    tensors = answer_tensors([Segments.empty((4, 5)), one], ["rle", "none"])
    assert tensors["COUNT"].tolist() == [[0], [1]]
    assert tensors["IMAGE_SIZE"].tolist() == [[4, 5], [4, 5]]
    assert tensors["MASKS"].tolist() == [[b""], [b""]]
    assert tensors["AREAS"].tolist() == [[0], [20]]
    for name in ("BOXES", "SCORES", "CLASSES", "PROMPTS", "FITS", "CROPS"):
        assert not tensors[name][0].any(), name


def test_fits_are_numbers_that_json_has():
    answer = Segments.unprompted(
        np.ones((2, 4), np.float32), np.ones(2, np.float32), np.ones(2, np.int64), Masks.from_dense(np.ones((2, 4, 5)))
    )
    assert np.isnan(answer.fits).all()
    assert answer_tensors([answer], ["none"])["FITS"].tolist() == [[-1, -1]]
    half = answer.answering([-1, 0], [np.nan, 0.5])
    assert answer_tensors([half], ["none"])["FITS"].tolist() == [[-1, 0.5]]


def test_dtypes_are_those_of_the_table():
    kinds = {name: values.dtype for name, values in answer_tensors([Segments.empty((4, 5))], ["rle"]).items()}
    assert kinds.pop("MASKS") == np.object_
    real = {name for name, kind in kinds.items() if kind == np.float32}
    assert real == {"BOXES", "SCORES", "FITS", "PROBABILITIES"}
    assert {kind for name, kind in kinds.items() if name not in real} == {np.dtype(np.int32)}


def test_tensors_are_as_they_are_stated():
    made = answer_tensors([Segments.empty((4, 5))], ["rle"])
    for tensor in ANSWER:
        values = made[tensor.name]
        assert values.dtype == (np.object_ if tensor.dtype == "bytes" else tensor.dtype)
        assert values.shape == (1, *(side or 0 for side in tensor.shape[1:])), "no segments, so no rows"


@pytest.mark.parametrize(("stated", "title"), [(QUESTION, "Inputs"), (ANSWER, "Outputs")])
def test_the_table_says_what_is_stated(stated: tuple[TensorInfo, ...], title: str):
    """For people there is a table in the module's text."""
    triton = {"bytes": "BYTES", "uint8": "UINT8", "int32": "INT32", "float32": "FP32"}
    table = (wire_tensors.__doc__ or "").split(title)[1].split("\n\n")[1]
    cells = [[cell.strip() for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]]
    written = [(name, dtype, re.sub("[a-z]", "None", shape)) for name, dtype, shape in cells if name]
    assert written == [(tensor.name, triton[tensor.dtype], str(tensor.shape)) for tensor in stated]


@pytest.mark.parametrize("kind", [ImageError, ModelError, ParameterError, PromptError])
def test_errors_keep_their_kind(kind: type[FastSamError]):
    error = error_from_text(f"in ensemble 'fastsam', {error_text(kind('box 0: is thin'))}")
    assert type(error) is kind
    assert str(error) == "box 0: is thin"
    assert error_from_text("Request timeout expired") is None


def test_answers_that_do_not_fit_together():
    answer = Segments.unprompted(
        np.ones((2, 4), np.float32),
        np.ones(2, np.float32),
        np.ones(2, np.int64),
        Masks.from_dense(np.ones((2, 40, 50))),
    )
    good = answer_tensors([answer], ["bits"])
    _assert_equal(answers_from_tensors(good, ("a", "b"))[0], replace(answer, class_names=("a", "b")))
    for name, changed in (
        ("MASKS", answer_tensors([answer], ["rle"])["MASKS"]),
        ("MASKS", good["MASKS"][:, :1]),
        ("COUNT", np.array([[3]], np.int32)),
        ("COUNT", np.array([[-1]], np.int32)),
        ("IMAGE_SIZE", np.array([[30, 50]], np.int32)),
        ("CROPS", good["CROPS"] - 1),
        ("SCORES", good["SCORES"][:, :1]),
    ):
        with pytest.raises(ModelError, match="does not fit together"):
            answers_from_tensors({**good, name: changed}, ("a", "b"))
    for name in OUTPUTS:
        with pytest.raises(ModelError, match=f"has no {name}"):
            answers_from_tensors({key: value for key, value in good.items() if key != name}, ("a", "b"))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("SCORES", lambda scores: scores * np.nan),
        ("SCORES", lambda scores: scores > 0),
        ("SCORES", lambda scores: scores.astype(str).astype(object)),
        ("BOXES", lambda boxes: boxes + np.inf),
        ("CLASSES", lambda classes: classes + 0.9),
        ("CROPS", lambda crops: crops.astype(np.float32)),
        ("CROPS", lambda crops: crops * -1),
        ("PROMPTS", lambda prompts: prompts - 5),
        ("COUNT", lambda count: count + 1000),
        ("IMAGE_SIZE", lambda size: size * 0),
    ],
)
def test_values_that_no_server_of_ours_gives_are_refused(name, change):
    masks = Masks.from_dense([[[0, 1, 1], [0, 1, 0]]])
    segments = Segments.unprompted(masks.boxes_xyxy(), np.ones(1, np.float32), np.zeros(1, np.int64), masks)
    tensors = answer_tensors([segments], ["bits"])
    with pytest.raises(ModelError, match="does not fit together"):
        answers_from_tensors({**tensors, name: change(tensors[name])}, ("object",))
