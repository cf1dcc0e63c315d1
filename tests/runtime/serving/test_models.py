"""The stages behind Triton's Python models, called as those call them; the real server is in tests/triton_models."""

from __future__ import annotations

import json
import logging
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime import (
    Boxes,
    FastSAM,
    FastSamError,
    ImageError,
    ModelError,
    ParameterError,
    Points,
    PromptError,
    Segments,
    Thresholds,
    load_image,
)
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.engines.interface import Engine
from fastsam_deploy.runtime.serving import Parameters, Postprocess, Preprocess, WholePipeline
from fastsam_deploy.runtime.serving.requests import images_of, questions_of
from fastsam_deploy.runtime.spec import METADATA_KEY
from fastsam_deploy.runtime.stages.isolated import IsolatedLoader
from fastsam_deploy.runtime.wire.answer import Tensors, answers_from_tensors
from fastsam_deploy.runtime.wire.question import Limits
from tests.runtime.stages.test_isolated import slow_bmp

IMGSZ = 160
BITS = {"masks": "bits"}


@pytest.fixture(scope="module")
def local() -> Iterator[FastSAM]:
    with FastSAM(imgsz=IMGSZ) as model:
        yield model


@pytest.fixture(scope="module")
def network(demo_onnx: Path) -> Iterator[Engine]:
    """What `fastsam_engine` is on a server."""
    engine = open_engine(demo_onnx)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def square() -> Iterator[FastSAM]:
    with FastSAM(imgsz=IMGSZ, rect=False) as model:
        yield model


@pytest.fixture
def parameters(local: FastSAM) -> Callable[..., Parameters]:
    def make(**changed: str) -> Parameters:
        texts = {METADATA_KEY: local.spec.to_json(), "imgsz": str(IMGSZ), "rect": "true", **changed}
        return Parameters({"parameters": {name: {"string_value": text} for name, text in texts.items()}})

    return make


@pytest.fixture
def whole(parameters: Callable[..., Parameters], demo_onnx: Path) -> Iterator[WholePipeline]:
    pipeline = WholePipeline(parameters(model=demo_onnx.name), demo_onnx.parent, "cpu")
    yield pipeline
    pipeline.close()


def _request(*images: bytes | np.ndarray, prompts: list[Any] | None = None) -> Tensors:
    """As the Python backend gives it: BYTES are objects."""
    request: Tensors = {}
    if isinstance(images[0], bytes):
        request["IMAGE"] = np.array([[image] for image in images], np.object_)
    else:
        request["PIXELS"] = np.stack(images)
    if prompts is not None:
        texts = [prompt if isinstance(prompt, bytes) else json.dumps(prompt).encode() for prompt in prompts]
        request["PROMPT"] = np.array([[text] for text in texts], np.object_)
    return request


def _assert_same(found: Segments, wanted: Segments) -> None:
    """Another batch size can change the order of a sum: masks equal but for stray pixels."""
    assert found.image_hw == wanted.image_hw
    assert len(found) == len(wanted) > 0
    np.testing.assert_array_equal(found.prompts, wanted.prompts)
    np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)
    for one, other in zip(found.masks, wanted.masks, strict=True):
        assert (one ^ other).sum() <= 1e-3 * other.sum() + 1


def test_the_whole_pipeline_answers_as_fastsam_does(whole: WholePipeline, local: FastSAM, coffee: Path, cat: Path):
    point, box = {"points": [[285, 150]], "mode": "each"}, {"boxes": [[20, 20, 300, 200]]}
    requests = [
        _request(coffee.read_bytes(), prompts=[BITS]),
        _request(load_image(cat), prompts=[{**BITS, "conf": 0.2}]),
        _request(coffee.read_bytes(), cat.read_bytes(), prompts=[{**BITS, "prompts": [point, box]}, BITS]),
    ]
    found = [answers_from_tensors(result, ("object",)) for result in whole(requests)]
    _assert_same(found[0][0], local.segment(coffee))
    _assert_same(found[1][0], local.segment(cat, thresholds=Thresholds(conf=0.2)))
    both = [Points([[285, 150]], mode="each"), Boxes([[20, 20, 300, 200]])]
    _assert_same(found[2][0], local.segment(coffee, both))
    _assert_same(found[2][1], local.segment(cat))


@pytest.mark.parametrize("rect", ["true", "false"])
def test_the_parts_of_the_ensemble_answer_as_fastsam_does(
    parameters: Callable[..., Parameters],
    network: Engine,
    local: FastSAM,
    square: FastSAM,
    coffee: Path,
    cat: Path,
    rect: str,
):
    before = Preprocess(parameters(rect=rect))
    after = Postprocess(parameters(rect=rect), Path())
    model = local if rect == "true" else square
    for path, prompts in ((coffee, [{"points": [[285, 150]]}]), (cat, [{"boxes": [[20, 20, 300, 200]]}])):
        request = _request(path.read_bytes(), prompts=[{**BITS, "prompts": prompts}])
        (passed,) = before([request])
        assert passed["images"].dtype == np.float32
        raw = network.run(passed["images"])
        outputs = {"output0": raw["detections"], "output1": raw["prototypes"], "IMAGE_SIZE": passed["IMAGE_SIZE"]}
        (answer,) = after([{**outputs, "PROMPT": request["PROMPT"]}])
        meant = Points([[285, 150]]) if path == coffee else Boxes([[20, 20, 300, 200]])
        _assert_same(answers_from_tensors(answer, ("object",))[0], model.segment(path, meant))


def test_errors_belong_to_their_requests(whole: WholePipeline, local: FastSAM, coffee: Path):
    good = _request(coffee.read_bytes(), prompts=[BITS])
    bad = [
        _request(b"no image"),
        _request(coffee.read_bytes(), prompts=[{"prompts": [{"points": [[9000, 1]]}]}]),
        _request(coffee.read_bytes(), prompts=[{"conf": 2}]),
        _request(coffee.read_bytes(), b"", prompts=[BITS, BITS]),
        {"PROMPT": good["PROMPT"]},
    ]
    kinds = [ImageError, PromptError, ParameterError, ImageError, ImageError]
    results = whole([bad[0], good, *bad[1:4], good, bad[4]])
    assert [type(results[i]) for i in (0, 2, 3, 4, 6)] == kinds
    for i in (1, 5):
        _assert_same(answers_from_tensors(results[i], ("object",))[0], local.segment(coffee))
    assert [type(result) for result in whole(bad)] == kinds
    assert whole([]) == []


def test_the_parts_keep_errors_apart_too(
    parameters: Callable[..., Parameters], network: Engine, local: FastSAM, coffee: Path
):
    before, after = Preprocess(parameters()), Postprocess(parameters(), Path())
    good, bad = _request(coffee.read_bytes()), _request(b"no image")
    wrong = _request(coffee.read_bytes(), prompts=[{"confidence": 1}])
    outside = _request(coffee.read_bytes(), prompts=[{"prompts": [{"boxes": [[0, 0, 9000, 9]]}]}])
    passed = before([bad, good, wrong, outside])
    assert isinstance(passed[0], ImageError)
    assert isinstance(passed[2], PromptError), "known before the network has run"
    assert isinstance(passed[3], PromptError), "known from the size of the image"
    raw = network.run(passed[1]["images"])
    outputs = {
        "output0": raw["detections"],
        "output1": raw["prototypes"],
        "IMAGE_SIZE": passed[1]["IMAGE_SIZE"],
    }
    far = {**outputs, "PROMPT": _request(b"", prompts=[{"prompts": [{"points": [[9000, 1]]}]}])["PROMPT"]}
    broken = {**outputs, "output0": np.full_like(raw["detections"], np.nan)}
    refused, answered, spoilt = after([far, outputs, broken])
    assert isinstance(refused, PromptError)
    assert answered["COUNT"].item() == len(local.segment(coffee))
    assert isinstance(spoilt, ModelError)


class Fragile:
    """An engine that fails when a batch holds an image whose corner is white: a network with a fault of its own."""

    def __init__(self, engine: Any, error: Exception) -> None:
        self._engine, self._error = engine, error
        # Where several runs at once pay, the images of a batch have runs of their own.
        self.spec, self.device, self.description = engine.spec, engine.device, {**engine.description, "streams": 1}
        self.runs: list[int] = []

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        self.runs.append(len(images))
        if (images[:, :, 40, 0] == 1).all(1).any():
            raise self._error
        found: dict[str, np.ndarray] = self._engine.run(images)
        return found

    def close(self) -> None:
        self._engine.close()


@pytest.mark.parametrize("error", [ModelError("the network failed"), MemoryError("no memory")], ids=["ours", "a bug"])
def test_one_image_that_spoils_the_batch_fails_alone(
    parameters: Callable[..., Parameters],
    demo_onnx: Path,
    local: FastSAM,
    coffee: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
):
    engine = Fragile(open_engine(demo_onnx), error)
    monkeypatch.setattr("fastsam_deploy.runtime.segmenters.open.open_engine", lambda *_: engine)
    pipeline = WholePipeline(parameters(model=demo_onnx.name), demo_onnx.parent, "cpu")
    good = load_image(coffee)
    white = np.full_like(good, 255)
    with caplog.at_level(logging.ERROR):
        results = pipeline([_request(good, prompts=[BITS]), _request(white), _request(good, prompts=[BITS])])
    assert engine.runs == [3, 1, 1, 1], "together first, then each by itself"
    assert results[1] is error
    assert ("a request failed" in caplog.text) == (not isinstance(error, FastSamError)), "a bug leaves its traceback"
    for i in (0, 2):
        _assert_same(answers_from_tensors(results[i], ("object",))[0], local.segment(good))


@pytest.mark.parametrize("size_hw", [(1, 2_000_000_000), (30_000_000, 1), (0, 40), (-5, 40)], ids=str)
def test_a_size_of_an_image_that_is_none(parameters: Callable[..., Parameters], size_hw: tuple[int, int]):
    """5 KB of request: the tensors of the step after the network may come from anybody."""
    outputs = {"output0": np.zeros((1, 37, 84), np.float32), "output1": np.zeros((1, 32, 8, 40), np.float32)}
    outputs["IMAGE_SIZE"] = np.array([size_hw], np.int32)
    tracemalloc.start()
    (error,) = Postprocess(parameters(), Path())([outputs])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(error, ImageError) and peak < 1e6


def test_preprocess_and_postprocess_must_agree(parameters: Callable[..., Parameters], network: Engine, coffee: Path):
    (passed,) = Preprocess(parameters())([_request(coffee.read_bytes())])
    raw = network.run(passed["images"])
    outputs = {"output0": raw["detections"], "output1": raw["prototypes"], "IMAGE_SIZE": passed["IMAGE_SIZE"]}
    for changed in ({"rect": "false"}, {"imgsz": "192"}):
        (error,) = Postprocess(parameters(**changed), Path())([outputs])
        assert isinstance(error, ParameterError)
        assert "need the same imgsz and rect" in str(error)


def test_images_of_several_shapes_in_one_request(parameters: Callable[..., Parameters], coffee: Path, cat: Path):
    tall = load_image(coffee).swapaxes(0, 1)
    (error,) = Preprocess(parameters())([{"IMAGE": np.array([[coffee.read_bytes()], [_png(tall)]], np.object_)}])
    assert isinstance(error, ImageError)
    assert "need network inputs of 2 shapes" in str(error)
    (passed,) = Preprocess(parameters(rect="false"))([_request(coffee.read_bytes(), _png(tall))])
    assert passed["images"].shape == (2, 3, IMGSZ, IMGSZ)
    assert passed["IMAGE_SIZE"].tolist() == [[400, 600], [600, 400]]


def _png(pixels: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def test_a_network_in_half_precision_gets_half_precision(local: FastSAM, coffee: Path):
    spec = json.loads(local.spec.to_json())
    texts = {METADATA_KEY: json.dumps({**spec, "input_dtype": "float16"}), "imgsz": str(IMGSZ)}
    half = Parameters({"parameters": {name: {"string_value": text} for name, text in texts.items()}})
    (passed,) = Preprocess(half)([_request(coffee.read_bytes())])
    assert passed["images"].dtype == np.float16


def test_images_of_a_request(coffee: Path):
    limits = Limits(image_bytes=100_000, pixels=240_000)
    (image,) = images_of(_request(coffee.read_bytes()), limits)
    np.testing.assert_array_equal(image, load_image(coffee))
    np.testing.assert_array_equal(images_of(_request(image, image), limits)[1], image)
    for request, says in (
        ({}, "neither of IMAGE and PIXELS given"),
        ({**_request(b"x"), **_request(image)}, "both of IMAGE and PIXELS given"),
        (_request(coffee.read_bytes(), b"text"), "IMAGE 1 of 2: not an image"),
        (_request(b"\xff\xd8\xff" + b"0" * 100_000), "the server takes 100,000"),
        (_request(np.zeros((401, 600, 3), np.uint8)), "the server takes 240,000 pixels"),
        (
            _request(_png(np.zeros((401, 600, 3), np.uint8))),
            r"the limit is 240,000; make the image smaller, \d+×\d+ at most$",
        ),
        (_request(np.zeros((0, 600, 3), np.uint8)), "PIXELS: shape"),
    ):
        with pytest.raises(ImageError, match=says):
            images_of(request, limits)


def test_questions_of_a_request(coffee: Path):
    questions = questions_of(_request(b""), 2, Limits(max_det=20))
    assert [question.thresholds.max_det for question in questions] == [20, 20]
    questions = questions_of(_request(b"", b"", prompts=[{"conf": 0.1}, {"iou": 0.5}]), 2, Limits())
    assert [(question.thresholds.conf, question.thresholds.iou) for question in questions] == [(0.1, 0.9), (0.4, 0.5)]
    with pytest.raises(PromptError, match="is not JSON"):
        questions_of(_request(b"", b"", prompts=[{}, b"{"]), 2, Limits())


def test_parameters_of_a_configuration(parameters: Callable[..., Parameters], local: FastSAM):
    found = parameters(limit_pixels="7", limit_prompts="", threads="")
    assert found.limits == Limits(pixels=7)
    assert found.number("threads") is None
    assert found.spec == local.spec
    assert found.rect
    assert not parameters(rect="false").rect
    with pytest.raises(ParameterError, match="imgsz is 'large', expected a whole number"):
        parameters(imgsz="large").number("imgsz")
    with pytest.raises(ModelError, match="model configuration"):
        _ = parameters(**{METADATA_KEY: "{"}).spec


def test_a_model_that_is_not_there(parameters: Callable[..., Parameters], tmp_path: Path):
    with pytest.raises(ModelError, match=r"model\.onnx: no such file"):
        WholePipeline(parameters(), tmp_path, "cpu")


def test_decoding_may_have_a_process_and_a_time_limit_of_its_own(
    parameters: Callable[..., Parameters], coffee: Path
) -> None:
    preprocess = Preprocess(parameters(decode_seconds="30"))
    plain = Preprocess(parameters(decode_seconds="off"))
    good, bad = _request(coffee.read_bytes()), _request(b"no image")
    results = preprocess([good, bad])
    expected = plain([good, bad])
    np.testing.assert_array_equal(results[0]["images"], expected[0]["images"])
    assert isinstance(results[1], ImageError)
    assert str(results[1]) == str(expected[1])
    with pytest.raises(ParameterError, match="seconds is 0, expected a number above 0"):
        Preprocess(parameters(decode_seconds="0"))


def test_a_bomb_within_the_limits_takes_no_time_of_the_server(parameters: Callable[..., Parameters], coffee: Path):
    """A BMP of a kilobyte, with fewer pixels than are allowed, took a decoder 16 s; files are isolated by default."""
    preprocess = Preprocess(parameters(decode_seconds="1"))
    preprocess([_request(coffee.read_bytes())])  # the first image may take longer: the process starts
    start = perf_counter()
    (error,) = preprocess([_request(slow_bmp(140_000, 350))])
    assert isinstance(error, ImageError) and "decoding it takes more than 1 s" in str(error)
    assert perf_counter() - start < 12
    assert isinstance(Parameters({}).decoder().__self__, IsolatedLoader)
    assert parameters(decode_seconds="off").decoder() is load_image


def test_only_the_models_that_decode_start_a_process(parameters: Callable[..., Parameters]):
    """The step after the network needs images for text prompts alone."""
    for stage, is_started in ((Preprocess(parameters()), True), (Postprocess(parameters(), Path()), False)):
        loader = stage._decode.__self__
        assert (loader._child is not None) == is_started
        loader.close()
