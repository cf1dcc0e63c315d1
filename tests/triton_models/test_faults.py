"""What clients send wrongly fails alone, with 400 / INVALID_ARGUMENT and our message; never 500."""

from __future__ import annotations

import json
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from fastsam_deploy.export.triton import to_triton
from fastsam_deploy.export.triton.configs import Serving
from fastsam_deploy.export.triton.to_triton import build_repository
from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.wire.question import Limits
from scripts.triton_server import Environment, Server
from tests.triton_models.plain_client import PlainClient, assert_same, column, refusal, segments_of

pytestmark = pytest.mark.triton

IMGSZ = 128
LIMITS = Limits(
    image_bytes=200_000, pixels=600 * 400, prompts=4096, groups=8, segments=200, max_det=300, answer_bytes=150_000
)
MODELS = ("fastsam", "fastsam_device")
CUP = [285, 150]


@pytest.fixture(scope="module")
def strict_server(
    environment: Environment, demo_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serves images of up to 600 x 400 pixels and 200,000 bytes."""
    folder = tmp_path_factory.mktemp("faults")
    usual = build_repository(demo_onnx, folder / "repository", imgsz=IMGSZ, threads=1, queue_ms=120_000)
    for model in usual.models:
        serving = Serving(**{**usual.serving.__dict__, "limits": LIMITS})
        config = to_triton.config_of(model, usual.spec, serving)
        (usual.path / model / "config.pbtxt").write_text(config)
    with Server(environment, usual.path, MODELS, log=folder / "log") as running:
        yield running


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request: pytest.FixtureRequest, strict_server: Server) -> Iterator[PlainClient]:
    with PlainClient(strict_server, request.param) as opened:
        yield opened


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _png(width: int, height: int, *parts: bytes) -> bytes:
    """A PNG that says it has this size, whatever its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")


def _bad_images(coffee: Path) -> dict[str, tuple[bytes, str]]:
    """What → file, and what the answer says."""
    good = coffee.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, len(good) - 1000, np.uint8).tobytes()
    return {
        "corrupt header": (good[:20] + b"\0" * 400 + good[420:], "IMAGE"),
        "noise behind a JPEG's start": (good[:3] + noise, "IMAGE"),
        "cut in the middle": (good[: len(good) // 2], "damaged or cut short"),
        "cut after its signature": (good[:4], "its header cannot be read"),
        "decompression bomb": (_png(60_000, 60_000, zlib.compress(b"\0" * 10_000)), "3,600,000,000 pixels, the limit"),
        "no pixels": (_png(64, 64), "IMAGE"),
        "width 0": (_png(0, 64), "IMAGE"),
        "text": (b"hello, this is no image", "not an image, it begins with b'hello"),
        "a web page": (b"<!DOCTYPE html><html></html>", "not an image"),
        "empty": (b"", "is empty (0 bytes)"),
        "one byte": (b"\xff", "not an image"),
        "too many bytes": (good + b"\0" * 200_000, "the server takes 200,000; make it smaller"),
        "too many pixels": (_png(601, 400, zlib.compress(b"\0" * 601 * 400 * 4)), "the limit is 240,000"),
    }


BAD_IMAGES = list(_bad_images(Path(__file__).resolve().parents[2] / "examples/images/coffee.jpg"))


@pytest.mark.parametrize("what", BAD_IMAGES)
def test_bad_images(client: PlainClient, model: str, coffee: Path, what: str):
    file, says = _bad_images(coffee)[what]
    with pytest.raises(InferenceServerException) as caught:
        client.ask(model, file)
    assert says in refusal(caught.value, client.transport)


def test_the_bad_image_among_several_is_named(client: PlainClient, model: str, coffee: Path):
    with pytest.raises(InferenceServerException) as caught:
        client.ask(model, [coffee.read_bytes(), b"text", coffee.read_bytes()])
    assert "IMAGE 1 of 3: not an image" in refusal(caught.value, client.transport)


POINT = {"points": [CUP]}
BAD_PROMPTS: dict[str, tuple[Any, str]] = {
    "no text": ("", "is not JSON"),
    "no JSON": ("points please", "is not JSON"),
    "cut": ('{"prompts": [', "is not JSON"),
    "no UTF-8": (b"\xff\xfe\xfa", "is not JSON"),
    "a list": (b"[]", "is not an object"),
    "null": ("null", "is not an object"),
    "unknown key": ({"confidence": 0.4}, "unknown key 'confidence'; known keys are prompts, conf, iou, max_det, masks"),
    "misspelt key of a prompt": ({"prompts": [{**POINT, "label": [1]}]}, "unknown key 'label'"),
    "prompts that are no list": ({"prompts": POINT}, "expected a list of objects"),
    "a prompt of no kind": ({"prompts": [{}]}, "a prompt is {}"),
    "a prompt of two kinds": ({"prompts": [{**POINT, "boxes": [[1, 1, 9, 9]]}]}, "a prompt is"),
    "a text, and no CLIP in the repository": ({"prompts": [{"text": "a cup"}]}, "CLIP"),
    "labels without points": ({"prompts": [{"labels": [1]}]}, "a prompt is {'labels': [1]}"),
    "more labels than points": ({"prompts": [{**POINT, "labels": [1, 0]}]}, "one label for each point"),
    "labels of several lengths": ({"prompts": [{**POINT, "labels": [[1], [1, 0]]}]}, "one number for each point"),
    "labels of another kind": ({"prompts": [{**POINT, "labels": [2]}]}, "point labels are [2]"),
    "no points": ({"prompts": [{"points": []}]}, "at least one"),
    "points in 3-D": ({"prompts": [{"points": [[1, 2, 3]]}]}, "points have shape (1, 3)"),
    "points as text": ({"prompts": [{"points": "285,150"}]}, "are not numbers"),
    "points that are no numbers": ({"prompts": [{"points": [[None, 1]]}]}, "not finite"),
    "NaN": ('{"prompts": [{"points": [[NaN, 10]]}]}', "NaN is no number of JSON"),
    "infinite": ('{"prompts": [{"boxes": [[0, 0, Infinity, 10]]}]}', "Infinity is no number of JSON"),
    "a number of 400 digits": ('{"prompts": [{"points": [[%s, 1]]}]}' % ("9" * 400), "are not numbers"),
    "a negative point": ({"prompts": [{"points": [[-1, 10]]}]}, "point 0 is at (-1, 10), the image has x in [0, 600)"),
    "a point outside": ({"prompts": [{"points": [CUP, [601, 10]]}]}, "point 1 is at (601, 10)"),
    "a point beyond any integer": ({"prompts": [{"points": [[1e300, 10]]}]}, "point 0 is at (1e+300, 10)"),
    "a box outside": ({"prompts": [{"boxes": [[10, 10, 700, 100]]}]}, "the image reaches from (0, 0) to (600, 400)"),
    "a box beyond any integer": ({"prompts": [{"boxes": [[1, 1, 1e30, 3]]}]}, "the image reaches from"),
    "a thin box": ({"prompts": [{"boxes": [[10, 10, 10.9, 100]]}]}, "x2 > x1 and y2 > y1"),
    "a box as x, y, w, h": ({"prompts": [{"boxes": [[300, 200, 50, 50]]}]}, "for x, y, w, h add"),
    "an unknown mode": ({"prompts": [{**POINT, "mode": "best"}]}, "one of merge, each, all"),
    "clean as text": ({"prompts": [{**POINT, "clean": "no"}]}, "expected true or false"),
    "not everything": ({"prompts": [{"everything": False}]}, "expected true"),
    "10,000 points": ({"prompts": [{"points": [CUP] * 10_000}]}, "10000 points"),
    "many prompts": ({"prompts": [POINT] * 9}, "9 prompts for one image, the server takes 8"),
    "many answers": ({"conf": 0.001, "prompts": [{"everything": True}] * 8}, "segments, the server gives at most 200"),
    "a large answer of a low threshold": ({"conf": 0.001, "max_det": 190, "masks": "bits"}, "at most 150,000"),
    "a large answer in RLE": ({"conf": 0.01, "max_det": 60, "prompts": [{"everything": True}] * 3}, "at most 150,000"),
    "deep nesting": ('{"prompts": ' + "[" * 100_000 + "]" * 100_000 + "}", "is not JSON"),
    "nested points": ({"prompts": [{"points": json.loads("[" * 90 + "]" * 90)}]}, "points"),
    "nested labels": ({"prompts": [{**POINT, "labels": json.loads("[" * 90 + "]" * 90)}]}, "nested more than 32 deep"),
    "conf 2": ({"conf": 2}, "conf is 2, expected 0"),
    "conf as text": ({"conf": "0.4"}, "conf is '0.4', expected a number"),
    "iou 0": ({"iou": 0}, "iou is 0"),
    "iou NaN": ('{"iou": NaN}', "NaN is no number of JSON"),
    "max_det 0": ({"max_det": 0}, "max_det is 0"),
    "max_det 2.5": ({"max_det": 2.5}, "max_det is 2.5"),
    "max_det infinite": ('{"max_det": 1e999}', "1e999 is no number of JSON"),
    "max_det NaN": ('{"max_det": NaN}', "NaN is no number of JSON"),
    "a million segments": ({"max_det": 1_000_000}, "the server gives at most 300"),
    "unknown form of masks": ({"masks": "png"}, "masks is 'png', expected one of rle, bits, none"),
    "a long unknown key": ({"x" * 100_000: 1}, "unknown key 'xxx"),
}


@pytest.mark.parametrize("what", BAD_PROMPTS)
def test_bad_prompts(client: PlainClient, model: str, coffee: Path, what: str):
    prompt, says = BAD_PROMPTS[what]
    with pytest.raises(InferenceServerException) as caught:
        client.ask(model, coffee.read_bytes(), prompt=prompt)
    message = refusal(caught.value, client.transport)
    assert says in message
    assert len(message) < 2000, "what was sent comes back in full"


def _pixels(shape: tuple[int, ...], dtype: type = np.uint8) -> NDArray[Any]:
    return np.zeros(shape, dtype)


BAD_TENSORS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to segment": ({"PROMPT": column([b"{}"])}, "neither of IMAGE and PIXELS given"),
    "both": ({"IMAGE": column([b"x"]), "PIXELS": _pixels((1, 8, 8, 3))}, "both of IMAGE and PIXELS given"),
    "float pixels": ({"PIXELS": _pixels((1, 8, 8, 3), np.float32)}, "PIXELS"),
    "16-bit pixels": ({"PIXELS": _pixels((1, 8, 8, 3), np.uint16)}, "PIXELS"),
    "an image of numbers": ({"IMAGE": _pixels((1, 1))}, "IMAGE"),
    "a prompt of numbers": ({"PIXELS": _pixels((1, 8, 8, 3)), "PROMPT": _pixels((1, 1), np.int32)}, "PROMPT"),
    "RGBA pixels": ({"PIXELS": _pixels((1, 8, 8, 4))}, "PIXELS"),
    "channels first": ({"PIXELS": _pixels((1, 3, 8, 8))}, "PIXELS"),
    "no batch": ({"PIXELS": _pixels((8, 8, 3))}, "PIXELS"),
    "no pixels": ({"PIXELS": _pixels((1, 0, 8, 3))}, "PIXELS"),
    "more than a batch": ({"PIXELS": _pixels((9, 8, 8, 3))}, "batch"),
    "too many pixels": ({"PIXELS": _pixels((1, 401, 600, 3))}, "PIXELS is 600×401, the server takes 240,000 pixels"),
    "two files in a row": ({"IMAGE": column([b"x", b"y"]).T}, "IMAGE"),
    "fewer prompts than images": ({"PIXELS": _pixels((2, 8, 8, 3)), "PROMPT": column([b"{}"])}, "batch"),
    "an unknown input": ({"PIXELS": _pixels((1, 8, 8, 3)), "THRESHOLD": _pixels((1, 1))}, "THRESHOLD"),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_bad_tensors(client: PlainClient, model: str, what: str):
    tensors, says = BAD_TENSORS[what]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, tensors)
    assert says in refusal(caught.value, client.transport)


def test_a_request_without_inputs(server: Server):
    """Triton refuses it before our code sees it (and counts it as a failure of the backend, which it is not)."""
    for transport in ("http", "grpc"):
        with PlainClient(server, transport) as client:
            for model in MODELS:
                with pytest.raises(InferenceServerException) as caught:
                    client.infer(model, {})
                refusal(caught.value, transport)


def test_unknown_models_and_versions(client: PlainClient, model: str, coffee: Path):
    missing = {"http": "404", "grpc": "StatusCode.NOT_FOUND"}[client.transport]
    for options in ({"model": "fastsam_x"}, {"model": model, "model_version": "7"}):
        name = options.pop("model")
        with pytest.raises(InferenceServerException) as caught:
            client.ask(name, coffee.read_bytes(), **options)
        # Triton has 400 for a version that is not there over HTTP.
        assert caught.value.status() in (missing, "400"), caught.value


def test_a_bad_request_fails_alone(strict_server: Server, model: str, coffee: Path):
    """Good and bad ones at the same time, in the same batches."""
    file = coffee.read_bytes()
    bad_images = [content for content, _ in _bad_images(coffee).values()]
    bad = [lambda c, f=f: c.ask(model, f) for f in bad_images]
    bad += [lambda c, p=p: c.ask(model, file, prompt=p) for p, _ in BAD_PROMPTS.values()]
    questions = [*bad, *[lambda c: c.ask(model, file)] * len(bad)]
    order = np.random.default_rng(1).permutation(len(questions))
    ready = threading.Barrier(32)
    with PlainClient(strict_server, "grpc") as client:
        before = client.batches(model)
        with FastSAM(imgsz=IMGSZ) as local:
            wanted = local.segment(coffee)

        def ask(share: int) -> list[Any]:
            ready.wait(60)
            found = []
            for number in order[share::32]:
                try:
                    found.append((number, questions[number](client)))
                except InferenceServerException as error:
                    found.append((number, error))
            return found

        with ThreadPoolExecutor(32) as pool:
            answers = dict(pair for found in pool.map(ask, range(32)) for pair in found)
        after = client.batches(model)
    assert len(answers) == len(questions)
    for number, answer in answers.items():
        if number < len(bad):
            assert isinstance(answer, InferenceServerException)
            refusal(answer, "grpc")
        else:
            assert_same(segments_of(answer), wanted)
    if model == "fastsam_device":
        shared = sum(size * (count - before.get(size, 0)) for size, count in after.items() if size > 1)
        assert shared > len(questions) / 2, "good and bad requests did not share batches"


def test_faults_leave_the_server_as_it_was(strict_server: Server, client: PlainClient, model: str, coffee: Path):
    """Nothing above was a 500, and no process has died of it: Triton counts both as failures of the backend."""
    metrics = strict_server.metrics().splitlines()
    failures = [line for line in metrics if line.startswith("nv_inference_request_failure") and "BACKEND" in line]
    assert failures
    assert all(line.endswith(" 0") for line in failures), failures
    with FastSAM(imgsz=IMGSZ) as local:
        assert_same(segments_of(client.ask(model, coffee.read_bytes())), local.segment(coffee))
