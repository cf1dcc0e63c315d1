"""A real server: what it answers is what Python answers; its limits; how it stops."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime import Boxes, Everything, FastSAM, Points, Segments, Text, Thresholds
from fastsam_deploy.runtime.formats import available, npz
from fastsam_deploy.runtime.formats.labelmap import label_map
from fastsam_deploy.runtime.http_server.requests import file_formats
from tests.runtime.http_server.served import PHOTOS, ROOT, Served, form_of

for _name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_name, reason="needs the extra [serve]")

COFFEE, CAT = (PHOTOS / "coffee.jpg").read_bytes(), (PHOTOS / "cat.jpg").read_bytes()
CLIP = ROOT / "tests/data/clip-tiny"
CUP: dict[str, Any] = {"points": [[285, 150]]}
PROMPTS: list[tuple[list[dict[str, Any]], list[Any]]] = [
    ([], []),
    ([{"everything": True}], [Everything()]),
    ([CUP], [Points([[285, 150]])]),
    ([{"points": [[285, 150], [5, 5]], "labels": [1, 0]}], [Points([[285, 150], [5, 5]], labels=[1, 0])]),
    ([{"points": [[285, 150], [100, 350]], "mode": "each"}], [Points([[285, 150], [100, 350]], mode="each")]),
    ([{"points": [[285, 150]], "mode": "all"}], [Points([[285, 150]], mode="all")]),
    ([{"boxes": [[150, 50, 420, 330], [1, 1, 50, 50]]}], [Boxes([[150, 50, 420, 330], [1, 1, 50, 50]])]),
    ([{"text": ["a cup", "a table"]}], [Text(["a cup", "a table"])]),
    ([CUP, {"boxes": [[150, 50, 420, 330]]}], [Points([[285, 150]]), Boxes([[150, 50, 420, 330]])]),
]
"""Prompts in JSON, and in Python."""


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    with Served("--clip", str(CLIP), "--max-image-mb", "1", "--max-megapixels", "1") as server:
        yield server


@pytest.fixture(scope="module")
def model() -> Iterator[FastSAM]:
    with FastSAM(imgsz=320, threads=1, clip=CLIP) as local:
        yield local


@pytest.fixture(scope="module")
def local(model: FastSAM) -> Segments:
    return model.segment(COFFEE)


def equal(document: Any, wanted: Segments) -> bool:
    """Whether an answer in JSON is what Python gives, but for the numbers of the request itself."""
    expected = json.loads(json.dumps(wanted.to_json()))
    return {**document, "id": 0, "timing_ms": 0} == {**expected, "id": 0, "timing_ms": 0}


@pytest.mark.parametrize(("asked", "prompts"), PROMPTS, ids=lambda value: str(value)[:40])
def test_every_prompt_gives_what_python_gives(
    asked: Any, prompts: Any, served: Served, model: FastSAM, local: Segments
):
    wanted = model.segment(COFFEE, prompts) if prompts else local
    form = served.form(COFFEE, prompts=asked)
    text = served.post("/v1/segment", image=base64.b64encode(COFFEE).decode(), prompts=asked, keep=False)
    assert form.status == text.status == 200
    assert equal(form.json, wanted) and equal(text.json, wanted)
    assert text.json["id"] is None and "x-image-id" not in text.headers
    assert form.headers["x-image-id"] == form.json["id"]
    later = served.post("/v1/select", id=form.json["id"], prompts=asked)
    assert later.status == 200 and equal(later.json, wanted) and later.json["id"] == form.json["id"]


@pytest.mark.parametrize("name", file_formats())
def test_every_format_gives_what_python_writes(name: str, served: Served, local: Segments):
    answer = served.form(COFFEE, format=name)
    later = served.post("/v1/select", id=answer.headers["x-image-id"], prompts=[], format=name)
    assert answer.status == later.status == 200
    if name == "json":
        assert equal(answer.json, local) and equal(later.json, local)
    elif name == "npz":
        assert npz.decode(answer.body).masks == npz.decode(later.body).masks == local.masks
    elif name == "labelmap":
        assert np.array_equal(np.array(Image.open(io.BytesIO(answer.body))), label_map(local))
        assert answer.headers["content-type"] == "image/png"
    else:
        (form,) = (form for form in available() if form.name == name)
        assert answer.body == later.body == form.encode(local)


def test_thresholds_are_those_of_the_request_and_else_of_the_command(served: Served, model: FastSAM):
    asked = Thresholds(conf=0.15, iou=0.5, max_det=5)
    answer = served.form(COFFEE, conf=0.15, iou=0.5, max_det=5)
    assert equal(answer.json, model.segment(COFFEE, thresholds=asked)) and len(answer.json["segments"]) == 5
    with Served("--max-det", "3") as server:
        assert len(server.form(COFFEE).json["segments"]) == 3


def test_two_clients_do_not_mix(served: Served, model: FastSAM):
    """Each has its photograph and its points, all at once."""
    photos = {"coffee": (COFFEE, [[285, 150]]), "cat": (CAT, [[400, 300]])}
    wanted = {name: model.segment(content, Points(points)) for name, (content, points) in photos.items()}

    def client(name: str) -> bool:
        content, points = photos[name]
        name_of_image = served.form(content, keep=True, masks="none").json["id"]
        answers = [served.post("/v1/select", id=name_of_image, prompts=[{"points": points}]) for _ in range(3)]
        return all(equal(answer.json, wanted[name]) for answer in answers)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(client, ["coffee", "cat"] * 6))


def test_requests_at_once_share_batches():
    with Served("--max-delay", "60000", "--max-batch", "4") as server, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.form(COFFEE, masks="none").json["segments"], range(8)))
        assert server.metric("fastsam_batch_size_count") == 2 and server.metric("fastsam_batch_size_sum") == 8
    assert all(len(answer) == len(answers[0]) > 5 for answer in answers)


def test_the_queue_is_bounded_and_says_when_to_come_again():
    with Served("--queue", "2", "--max-delay", "5000", "--max-batch", "3") as server, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.form, COFFEE) for _ in range(2)]
        while server.metric("fastsam_requests_in_progress") < 2:
            assert not any(future.done() for future in waiting)
        refused = server.form(COFFEE)
        assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1
        assert (
            refused.json["kind"] == "BusyError"
            and "the server takes 2 at once; send it again" in refused.json["detail"]
        )
        assert [future.result().status for future in waiting] == [200, 200]
        assert server.form(COFFEE).status == 200, "there is room again"


def test_a_request_that_takes_too_long_is_given_up():
    with Served("--timeout", "0.5", "--max-delay", "60000", "--max-batch", "2") as server:
        late = server.form(COFFEE)
        assert (late.status, late.json["kind"], late.headers["retry-after"]) == (503, "LateError", "1")
        assert server.metric("fastsam_requests_in_progress") == 0
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            head = "POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
            slow.sendall(head.encode())
            slow.settimeout(30)
            assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_is_forgotten():
    with Served("--max-delay", "60000", "--max-batch", "2") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        body, kind = form_of(COFFEE)
        connection.request("POST", "/v1/segment", body, {"Content-Type": kind})
        while server.metric("fastsam_images_waiting") < 1:
            pass
        connection.close()
        assert server.form(COFFEE).status == 200, "its place in the batch makes the batch full"
        assert server.metric("fastsam_batch_size_sum") == 1, "and it is not run"


@pytest.mark.parametrize(
    ("body", "kind", "status", "name", "detail"),
    [
        (b"{}", "application/json", 400, "ImageError", "neither of image and url given"),
        (b"{", "application/json", 400, "PromptError", "is not JSON"),
        (b'{"image": "eHg="}', "application/json", 400, "ImageError", "image: not an image"),
        (b'{"url": "http://127.0.0.1/x"}', "application/json", 400, "ParameterError", "fetches no images"),
        (b"x", "text/plain", 415, "MediaTypeError", "the body is text/plain; expected application/json"),
        (b"x", "multipart/form-data", 400, "ParameterError", "the form cannot be read"),
        (b"x", "multipart/form-data; boundary=y", 400, "ParameterError", "the form cannot be read"),
        (b'{"image": "' + b"A" * 4_000_000 + b'"}', "application/json", 413, "BodyTooLargeError", "the server takes"),
    ],
)
def test_a_wrong_request_is_a_problem_of_one_line(
    body: bytes, kind: str, status: int, name: str, detail: str, served: Served
):
    answer = served.send("POST", "/v1/segment", body, Content_Type=kind)
    assert (answer.status, answer.json["status"], answer.json["kind"]) == (status, status, name)
    assert detail in answer.json["detail"] and "Traceback" not in answer.json["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


def test_limits_of_an_image(served: Served):
    noise = np.random.default_rng(1).integers(0, 255, (600, 700, 3), np.uint8)
    for image, detail in [
        (Image.fromarray(noise), "bytes, the server takes 1,000,000; make it smaller"),
        (Image.new("RGB", (1100, 1000)), "1100×1000 are 1,100,000 pixels, the limit is 1,000,000"),
    ]:
        stream = io.BytesIO()
        image.save(stream, "PNG")
        answer = served.form(stream.getvalue())
        assert answer.status == 400 and detail in answer.json["detail"]


def test_prompts_that_do_not_fit_leave_nothing(served: Served):
    before = served.metric("fastsam_cache_images")
    answer = served.form(COFFEE, prompts=[{"points": [[700, 0]]}])
    assert answer.status == 400 and "the image has x in [0, 600)" in answer.json["detail"]
    assert served.metric("fastsam_cache_images") == before


def test_other_paths_and_methods(served: Served):
    assert (served.get("/v2").status, served.get("/v1/segment").status) == (404, 405)
    gone = served.post("/v1/select", id="nobody", prompts=[])
    assert (gone.status, gone.json["kind"]) == (404, "UnknownImageError")


def test_health_model_page_and_metrics(served: Served):
    parser = pytest.importorskip("prometheus_client.parser")
    assert served.get("/health/live").json == {"status": "live"}
    assert served.get("/health/ready").json == {"status": "ready"}
    described = served.get("/v1/model").json
    assert described["imgsz"] == 320 and described["limits"]["pixels"] == 1_000_000
    page = served.get("/docs").body.decode()
    assert "POST /v1/segment" in page and "//" not in page.replace("data:image", ""), "nothing is loaded from elsewhere"
    served.form(COFFEE)
    families = {
        family.name: family for family in parser.text_string_to_metric_families(served.get("/metrics").body.decode())
    }
    assert {"fastsam_requests", "fastsam_request_seconds", "fastsam_batch_size", "fastsam_cache_bytes"} <= set(families)
    stages = {sample.labels["stage"] for sample in families["fastsam_stage_seconds"].samples}
    assert {"load", "letterbox", "engine", "masks"} <= stages


def test_sigterm_answers_what_was_accepted_and_says_so_to_balancers():
    with Served("--drain", "2", "--max-delay", "1500", "--max-batch", "9") as server, ThreadPoolExecutor(4) as pool:
        accepted = [pool.submit(server.form, COFFEE) for _ in range(3)]
        while server.metric("fastsam_requests_in_progress") < 3:
            assert not any(future.done() for future in accepted)
        server.process.terminate()
        while (ready := server.get("/health/ready")).status == 200:
            pass
        assert ready.status == 503 and server.get("/health/live").status == 200
        assert server.form(COFFEE, masks="none").status == 200, "it still accepts"
        assert [future.result().status for future in accepted] == [200] * 3
        assert server.process.wait(30) == 0
        with pytest.raises(ConnectionRefusedError):
            server.get("/health/live")


def test_ctrl_c_ends_it_and_a_second_one_cuts_off_what_is_under_way():
    with Served("--max-delay", "60000", "--max-batch", "2") as server:
        sender = threading.Thread(target=_swallow, args=(server,))
        sender.start()
        while server.metric("fastsam_images_waiting") < 1:
            pass
        server.process.send_signal(2)
        while server.process.poll() is None and _accepts(server):
            pass
        server.process.send_signal(2)
        assert server.process.wait(30) == 0
        sender.join()


def _swallow(server: Served) -> None:
    try:
        server.form(COFFEE)
    except (OSError, http.client.HTTPException):
        return


def _accepts(server: Served) -> bool:
    try:
        return server.get("/health/ready").status == 200
    except OSError:
        return False


@pytest.mark.slow
def test_memory_stays_flat_over_thousands_of_requests():
    """The cache is full after a few; nothing else grows."""
    with Served("--cache-images", "20", "--imgsz", "64") as server, ThreadPoolExecutor(4) as pool:
        small = io.BytesIO()
        Image.open(PHOTOS / "cat.jpg").resize((160, 120)).save(small, "JPEG")

        def load(count: int) -> float:
            replies = pool.map(lambda _: server.form(small.getvalue()).status, range(count))
            assert set(replies) == {200}
            return server.metric("process_resident_memory_bytes")

        before = load(500)
        after = load(2500)
        assert server.metric("fastsam_cache_images") == 20
        assert after - before < 40_000_000
