"""Every way to write segments holds the same segments."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime import Everything, FastSAM, PromptError, Segments
from fastsam_deploy.runtime.formats import npz
from fastsam_deploy.runtime.formats.labelmap import label_map
from fastsam_deploy.runtime.http_server.answers import answer_of, media_type_of
from fastsam_deploy.runtime.http_server.requests import MASKS, AnswerForm, file_formats
from fastsam_deploy.runtime.masks.bits import unpack_bytes
from tests.runtime.http_server.served import PHOTOS


@pytest.fixture(scope="module")
def segments() -> Segments:
    with FastSAM(imgsz=320, threads=1) as model:
        return model.segment(PHOTOS / "coffee.jpg")


def document(segments: Segments, masks: str) -> Any:
    return json.loads(answer_of(segments, AnswerForm(masks=masks), "abc", None).body)


def test_rle_is_what_to_json_gives(segments: Segments):
    answer = document(segments, "rle")
    assert answer["id"] == "abc" and set(answer["timing_ms"]) == set(segments.timing_ms)
    assert {**segments.to_json(), **{name: answer[name] for name in ("id", "timing_ms")}} == answer
    assert Segments.from_json(answer).masks == segments.masks


def test_bits(segments: Segments):
    for row, crop in zip(document(segments, "bits")["segments"], segments.masks.crops, strict=True):
        *_, width, height = row["segmentation"]["crop"]
        packed = np.frombuffer(base64.b64decode(row["segmentation"]["bits"]), np.uint8)
        assert np.array_equal(unpack_bytes(packed, (height, width)), crop)


def test_polygons(segments: Segments):
    for row, mask in zip(document(segments, "polygons")["segments"], segments.masks, strict=True):
        canvas = np.zeros(mask.shape, np.uint8)
        area = 0.0
        for part in row["segmentation"]:
            for ring in part:
                area += cv2.contourArea(np.array(ring, np.float32)) * (1 if ring is part[0] else -1)
        assert area == row["area"] == mask.sum() and canvas.shape == segments.image_hw


def test_a_label_map_in_json_and_as_a_file(segments: Segments):
    answer = document(segments, "labelmap")
    content = base64.b64decode(answer["label_map"])
    assert content == answer_of(segments, AnswerForm("labelmap"), None, None).body
    labels = np.array(Image.open(io.BytesIO(content)))
    assert np.array_equal(labels, label_map(segments)) and labels.max() == len(segments)
    for row, mask in zip(answer["segments"], segments.masks, strict=True):
        assert "segmentation" not in row
        assert not (labels == row["label"])[~mask].any(), "smaller segments may cover it, but it is nowhere else"


def test_none_has_boxes_alone(segments: Segments):
    rows = document(segments, "none")["segments"]
    assert all("segmentation" not in row for row in rows)
    assert [row["bbox"] for row in rows] == [row["bbox"] for row in segments.to_json()["segments"]]


def test_npz_is_all_of_it(segments: Segments):
    answer = answer_of(segments, AnswerForm("npz"), None, None)
    assert npz.decode(answer.body).masks == segments.masks and answer.media_type == "application/octet-stream"


@pytest.mark.parametrize("name", file_formats())
def test_every_format_has_a_type_and_can_be_empty(name: str, segments: Segments):
    for some in (segments, Segments.empty((4, 6))):
        answer = answer_of(some, AnswerForm(name), None, None)
        assert answer.media_type == media_type_of(name)


@pytest.mark.parametrize("form", [*(AnswerForm(masks=masks) for masks in MASKS), *map(AnswerForm, file_formats())])
def test_an_answer_that_is_too_long_is_refused(form: AnswerForm, segments: Segments):
    many = segments.select([Everything()] * 2)
    whole = len(answer_of(many, form, None, None).body)
    with pytest.raises(PromptError, match=r"the answer has [\d,]+ bytes or more, the server gives at most"):
        answer_of(many, form, None, whole - 1)


@pytest.mark.parametrize("form", [AnswerForm(masks="polygons"), AnswerForm("yolo"), AnswerForm("npz")])
def test_outlines_are_made_of_so_many_segments_only(form: AnswerForm, segments: Segments):
    many = segments.select([Everything()] * (1001 // len(segments) + 1))
    with pytest.raises(PromptError, match=r"segments, expected at most 1000 as polygons or in a format other than"):
        answer_of(many, form, None, None)


def test_bits_are_counted_before_they_are_made(segments: Segments):
    """A short request may ask for all segments 256 times."""
    many = segments.select([Everything()] * 256)
    with pytest.raises(PromptError):
        answer_of(many, AnswerForm(masks="bits"), None, 1_000_000)
