"""`FastSAM("http+fastsam://…")` gives what a local model gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime import (
    Boxes,
    Connection,
    Everything,
    FastSAM,
    ImageError,
    ModelError,
    ParameterError,
    Points,
    PromptError,
    Segments,
    ServerError,
    Text,
    Thresholds,
)
from fastsam_deploy.runtime.connection import ServeAddress, is_serve_address
from fastsam_deploy.runtime.spec import ModelSpec
from tests.processes import FORKED, run_program
from tests.runtime.http_server.served import PHOTOS, ROOT, Served

CLIP = ROOT / "tests/data/clip-tiny"
COFFEE, CAT = PHOTOS / "coffee.jpg", PHOTOS / "cat.jpg"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    for name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        pytest.importorskip(name, reason="needs the extra [serve]")
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    with Served("--clip", str(CLIP), "--max-image-mb", "4") as server:
        yield server


@pytest.fixture(scope="module")
def remote(served: Served) -> Iterator[FastSAM]:
    with FastSAM(f"http+fastsam://127.0.0.1:{served.port}") as model:
        yield model


@pytest.fixture(scope="module")
def local() -> Iterator[FastSAM]:
    with FastSAM(imgsz=320, threads=1, clip=CLIP) as model:
        yield model


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        Everything(),
        Points([[285, 150], [5, 5]], labels=[1, 0]),
        Points([[285, 150], [100, 350]], mode="each"),
        Boxes([[150, 50, 420, 330]]),
        Text(["a cup", "a table"]),
        [Points([[285, 150]]), Boxes([[150, 50, 420, 330]])],
    ],
    ids=str,
)
def test_every_prompt(prompt: Any, remote: FastSAM, local: FastSAM):
    assert remote.segment(COFFEE, prompt) == local.segment(COFFEE, prompt)


def test_every_kind_of_image(remote: FastSAM, local: FastSAM):
    pixels = cv2.imread(str(CAT))
    for image, color in [(CAT, "RGB"), (CAT.read_bytes(), "RGB"), (pixels, "BGR"), (Image.open(CAT), "RGB"),
                         (pixels[..., 0].astype(np.uint16) * 256, "RGB")]:  # fmt: skip
        assert remote.segment(image, color=color) == local.segment(image, color=color)


def test_batches_streams_and_thresholds(remote: FastSAM, local: FastSAM):
    images, thresholds = [COFFEE, CAT, COFFEE], [Thresholds(conf=conf) for conf in (0.2, 0.5, 0.6)]
    for answer, wanted in zip(
        remote.segment_batch(images, thresholds=thresholds), local.segment_batch(images, thresholds=thresholds),
        strict=True,
    ):  # fmt: skip
        assert len(answer) == len(wanted) and np.allclose(answer.boxes_xyxy, wanted.boxes_xyxy, atol=0.01)
    items = list(remote.segment_stream([COFFEE, b"no image", CAT]))
    assert [item.segments == local.segment(item.source) for item in (items[0], items[2])] == [True, True]
    assert isinstance(items[1].error, ImageError)


def test_prompts_of_other_kinds_are_answered_here(remote: FastSAM, local: FastSAM):
    class Largest:
        prompt_count = 1

        def select_from(self, segments: Segments) -> Segments:
            return segments[segments.areas.argmax()].answering([0], [1.0])

    assert remote.segment(COFFEE, [Largest(), Everything()]) == local.segment(COFFEE, [Largest(), Everything()])


def test_texts_with_a_clip_here(served: Served, local: FastSAM):
    with FastSAM(f"http+fastsam://127.0.0.1:{served.port}", clip=CLIP) as model:
        assert model.segment(COFFEE, Text("a cup")) == local.segment(COFFEE, Text("a cup"))


def test_what_it_says_of_the_server(remote: FastSAM, served: Served):
    assert remote.imgsz == 320 and remote.device == f"127.0.0.1:{served.port}" and "fastsam serve" in repr(remote)
    assert set(remote.segment(CAT).timing_ms) >= {"server"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"imgsz": 640}, "imgsz is 640, the server .* has 320; leave imgsz out"), ({"rect": True}, "leave rect out"),
     ({"threads": 2}, "threads is 2; the server has its own: leave threads out")],
)  # fmt: skip
def test_settings_of_the_server_are_refused(settings: dict[str, Any], message: str, served: Served):
    with pytest.raises(ParameterError, match=message):
        FastSAM(f"http+fastsam://127.0.0.1:{served.port}", **settings)


def test_errors_are_those_of_a_local_model(remote: FastSAM, local: FastSAM):
    for model in (remote, local):
        with pytest.raises(PromptError, match="the image has x in"):
            model.segment(COFFEE, Points([[9999, 0]]))
        with pytest.raises(ImageError):
            model.segment(b"no image")
    noise = np.random.default_rng(1).integers(0, 255, (1500, 1500, 3), np.uint8)
    with pytest.raises(ImageError, match=r"the body has [\d,]+ bytes or more, the server takes"):
        remote.segment(noise)


def test_the_command_takes_the_address(served: Served, local: FastSAM, tmp_path: Path):
    words = ["segment", str(COFFEE), "--model", f"http+fastsam://127.0.0.1:{served.port}", "--json", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "fastsam_deploy.runtime.cli", *words],
        capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ,
    )  # fmt: skip
    assert Segments.from_json(json.loads(done.stdout)).masks == local.segment(COFFEE).masks


def test_a_forked_child_asks_like_its_parent(served: Served, tmp_path: Path):
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    code = (
        FORKED
        + """
from fastsam_deploy.runtime import FastSAM
model = FastSAM(sys.argv[1])
wanted = model.segment("examples/images/coffee.jpg")
def work():
    assert model.segment("examples/images/coffee.jpg") == wanted and len(wanted) > 5
print(forked(work), model.segment("examples/images/coffee.jpg") == wanted)
"""
    )
    assert run_program(tmp_path, code, f"http+fastsam://127.0.0.1:{served.port}") == "0 True\n"


class Moody(BaseHTTPRequestHandler):
    """Busy twice, then a description; what it says of images depends on the path in front."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if type(self).asked <= 2:
            self._answer(503, b'{"kind": "BusyError", "detail": "full"}')
        elif self.path.startswith("/other"):
            self._answer(200, b"<html>")
        else:
            self._answer(200, json.dumps({"spec": ModelSpec().to_json(), "imgsz": 320}).encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/cut"):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"PK")
            return
        self._answer(502 if self.path.startswith("/proxy") else 200, b"a bad gateway")

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def moody() -> Iterator[str]:
    Moody.asked = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http+fastsam://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_busy_server_is_asked_again(moody: str):
    with FastSAM(moody, connection=Connection(backoff_s=0)) as model:
        assert model.imgsz == 320 and Moody.asked == 3
    Moody.asked = 0
    with pytest.raises(ServerError, match=r"away or too busy, asked 2 times \(.*BusyError: full\); check that"):
        FastSAM(moody, connection=Connection(backoff_s=0, retries=1))


def test_answers_of_something_else(moody: str):
    connection = Connection(backoff_s=0, retries=2)
    with pytest.raises(ServerError, match="is it a fastsam serve that answers"):
        FastSAM(f"{moody}/other", connection=connection)
    for prefix, kind, message in [
        ("", ModelError, "the answer cannot be read .* same version"),
        ("/proxy", ServerError, "status 502: a bad gateway"),
        ("/cut", ServerError, "away or too busy, asked 3 times"),
    ]:
        with FastSAM(moody + prefix, connection=connection) as model, pytest.raises(kind, match=message):
            model.segment(CAT)


def test_nobody_is_there():
    with pytest.raises(ServerError, match=r"http\+fastsam://127\.0\.0\.1:1: away or too busy, asked 1 times"):
        FastSAM("http+fastsam://127.0.0.1:1", connection=Connection(retries=0))


@pytest.mark.parametrize(
    "text",
    [
        "http+fastsam://",
        "http+fastsam://host:99999",
        "http+fastsam://user:word@host",
        "http+fastsam://h/a b",
        "fastsam://h",
    ],
)
def test_an_address_that_is_none(text: str):
    with pytest.raises(ParameterError) as caught:
        ServeAddress.from_text(text)
    assert "word" not in str(caught.value)


def test_addresses():
    assert ServeAddress.from_text("https+fastsam://h/vision/").prefix == "/vision"
    assert is_serve_address("https+fastsam://h") and not is_serve_address("https://h/fastsam")
