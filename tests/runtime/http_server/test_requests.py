"""What a request may ask for, and what is said of all else."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from fastsam_deploy.runtime import Boxes, FastSamError, ImageError, ParameterError, Points, PromptError, Thresholds
from fastsam_deploy.runtime.http_server.requests import (
    AnswerForm,
    SegmentRequest,
    SelectRequest,
    values_from_form,
    values_from_json,
)
from fastsam_deploy.runtime.wire.question import Limits
from tests.runtime.http_server.served import PHOTOS

CAT = (PHOTOS / "cat.jpg").read_bytes()
TEXT = base64.b64encode(CAT).decode()


@pytest.mark.parametrize("image", [TEXT, f"data:image/jpeg;base64,{TEXT}", CAT])
def test_an_image_is_base64_a_data_url_or_bytes(image: Any):
    request = SegmentRequest.from_values({"image": image}, Limits())
    assert request.content == CAT and request.keep and request.form == AnswerForm()


def test_prompts_and_thresholds():
    prompts = [{"points": [[3, 4]]}, {"boxes": [[1, 2, 30, 40]]}]
    values = {"image": TEXT, "prompts": prompts, "iou": 0.5, "masks": "bits", "keep": False}
    request = SegmentRequest.from_values(values, Limits(), Thresholds(conf=0.3, max_det=7))
    assert request.question.thresholds == Thresholds(0.3, 0.5, 7) and not request.keep
    assert [type(prompt) for prompt in request.question.prompts] == [Points, Boxes]


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([], PromptError, r"the request: \[\] is not an object"),
        ({}, ImageError, "neither of image and url given; expected one of them"),
        ({"image": TEXT, "url": "https://x"}, ImageError, "both of image and url given"),
        ({"image": 5}, ImageError, "image is 5, expected an image file in base64"),
        ({"image": ""}, ImageError, "image is '', expected an image file"),
        ({"image": "data:text,x"}, ImageError, "expected data:image/jpeg;base64"),
        ({"url": 5}, ParameterError, "url is 5, expected a text"),
        ({"image": TEXT, "colour": 1}, PromptError, "the request: unknown key 'colour'; known keys are prompts"),
        ({"image": TEXT, "conf": "high"}, ParameterError, "the request: conf is 'high', expected a number"),
        ({"image": TEXT, "conf": 3}, ParameterError, "conf is 3, expected 0 ≤ conf < 1"),
        ({"image": TEXT, "max_det": 5000}, ParameterError, "max_det is 5000, the server gives at most 1000"),
        ({"image": TEXT, "keep": 1}, ParameterError, "keep is 1, expected true or false"),
        ({"image": TEXT, "masks": "png"}, ParameterError, "masks is 'png', expected one of rle, polygons"),
        ({"image": TEXT, "format": ["json"]}, ParameterError, r"format is \['json'\], expected one of json, coco"),
        ({"image": TEXT, "format": "npz", "masks": "rle"}, ParameterError, "masks is given with the format 'npz'"),
        ({"image": TEXT, "prompts": {}}, PromptError, r"the request: prompts is \{\}, expected a list"),
        ({"image": TEXT, "prompts": [{"circle": 1}]}, PromptError, "the request: a prompt is"),
        ({"image": TEXT, "prompts": [{"points": [[1, 2]] * 5000}]}, PromptError, "the server takes 4096"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(values: Any, kind: type[FastSamError], message: str):
    with pytest.raises(kind, match=message):
        SegmentRequest.from_values(values, Limits())


@pytest.mark.parametrize("name", [None, "", 5, "x" * 65, "\ud800"])
def test_an_id_is_a_short_text(name: Any):
    with pytest.raises(ParameterError, match=r"id is .*, expected that of an answer of /v1/segment"):
        SelectRequest.from_values({"id": name, "prompts": []}, Limits())


def test_an_id_goes_with_prompts_alone():
    with pytest.raises(PromptError, match="unknown key 'conf'"):
        SelectRequest.from_values({"id": "a", "conf": 0.5}, Limits())


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[NaN]", b"[" * 100_000, b'{"a":' * 40 + b"1" + b"}" * 40])
def test_text_that_is_not_json(text: bytes):
    with pytest.raises(PromptError, match=r"the request: b'.*is not JSON .*expected an object such as"):
        values_from_json(text, 1 << 20)


def test_a_form_has_texts():
    values = values_from_form({"image": b"x", "conf": "0.25", "keep": "false", "masks": "none", "prompts": "[]"})
    assert values == {"image": b"x", "conf": 0.25, "keep": False, "masks": "none", "prompts": []}
    with pytest.raises(PromptError, match=r"field prompts: '\[1, 2' is not JSON"):
        values_from_form({"prompts": "[1, 2"})
    with pytest.raises(ParameterError, match="field conf: 'high' is not JSON"):
        values_from_form({"conf": "high"})
    with pytest.raises(ParameterError, match="field masks: is a file"):
        values_from_form({"masks": b"rle"})
