"""Requests that come at the same time share a run of the network, and each gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.export.triton.to_triton import build_repository
from fastsam_deploy.runtime import Boxes, FastSAM, Points, Segments, Thresholds
from scripts.triton_server import Environment, Server
from tests.triton_models.plain_client import Answer, PlainClient, assert_same, segments_of

pytestmark = pytest.mark.triton

CLIENTS = 64
IMGSZ = 128


@pytest.fixture(scope="module")
def small_server(
    environment: Environment, demo_onnx: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("batching")
    # A busy machine may take long for so many; that a queue refuses what waits too long is another test's matter.
    built = build_repository(demo_onnx, folder / "repository", imgsz=IMGSZ, threads=1, queue_ms=120_000)
    with Server(environment, built.path, ("fastsam", "fastsam_device"), log=folder / "log") as running:
        yield running


@pytest.fixture(scope="module")
def local() -> Iterator[FastSAM]:
    with FastSAM(imgsz=IMGSZ) as model:
        yield model


def _photographs(coffee: Path, sizes: list[tuple[int, int]]) -> list[Image.Image]:
    with Image.open(coffee) as image:
        return [image.resize(size) for size in sizes]


def _file(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _all_at_once(server: Server, transport: str, questions: list[Callable[[PlainClient], Answer]]) -> list[Answer]:
    """Each question from a client of its own; all wait for the last to be connected."""
    ready = threading.Barrier(len(questions))

    def ask(question: Callable[[PlainClient], Answer]) -> Answer:
        with PlainClient(server, transport) as client:
            client.raw.is_server_live()
            ready.wait(60)
            return question(client)

    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(ask, questions))


class Runs:
    """What a model did between two moments."""

    def __init__(self, server: Server, model: str) -> None:
        self._server, self._model = server, model
        self._before = self._counts()

    def _counts(self) -> tuple[int, int]:
        with PlainClient(self._server, "grpc") as client:
            (one,) = client.statistics(self._model)
        return int(one.get("inference_count", 0)), int(one.get("execution_count", 0))

    def since(self) -> tuple[int, int]:
        """Images, and runs for them."""
        images, runs = self._counts()
        return images - self._before[0], runs - self._before[1]


@pytest.mark.parametrize("transport", ["http", "grpc"])
@pytest.mark.parametrize("model", ["fastsam", "fastsam_device"])
def test_many_clients_with_images_of_their_own_sizes(
    small_server: Server, local: FastSAM, coffee: Path, model: str, transport: str
):
    sizes = [(90 + 7 * (i % 16), 80 + 31 * (i // 16) + i) for i in range(CLIENTS)]
    assert len(set(sizes)) == CLIENTS
    images = _photographs(coffee, sizes)
    runs = Runs(small_server, "fastsam_device")
    files = list(map(_file, images))
    answers = _all_at_once(small_server, transport, [lambda c, f=file: c.ask(model, f) for file in files])
    found = 0
    for answer, image in zip(answers, images, strict=True):
        segments = segments_of(answer)
        assert_same(segments, local.segment(image))
        found += len(segments)
    assert found > CLIENTS
    if model == "fastsam_device":
        asked, ran = runs.since()
        assert asked == CLIENTS
        assert ran <= CLIENTS / 2, "images of different sizes did not share batches"


def test_pixels_of_different_sizes_share_batches(small_server: Server, local: FastSAM, coffee: Path):
    """`allow_ragged_batch` is what makes it so: without it Triton runs each shape by itself."""
    images = _photographs(coffee, [(100 + i, 140 - i) for i in range(CLIENTS)])
    runs = Runs(small_server, "fastsam_device")
    arrays = [np.asarray(image)[None] for image in images]
    asks = [lambda c, p=array: c.ask("fastsam_device", pixels=p, prompt={"masks": "none"}) for array in arrays]
    answers = _all_at_once(small_server, "grpc", asks)
    for answer, image in zip(answers, images, strict=True):
        assert answer["IMAGE_SIZE"].tolist() == [[image.height, image.width]]
        assert answer["COUNT"].item() == len(local.segment(image))
    asked, ran = runs.since()
    assert asked == CLIENTS
    assert ran <= CLIENTS / 2


def test_the_network_of_the_ensemble_runs_in_batches(small_server: Server, local: FastSAM, coffee: Path):
    """Images of one shape of the network's input: 150 x 100 and 151 x 102 are both 128 x 96 there."""
    images = _photographs(coffee, [(150 + i % 2, 100 + i % 3) for i in range(CLIENTS)])
    runs = Runs(small_server, "fastsam_engine")
    files = list(map(_file, images))
    answers = _all_at_once(small_server, "grpc", [lambda c, f=file: c.ask("fastsam", f) for file in files])
    for answer, image in zip(answers, images, strict=True):
        assert_same(segments_of(answer), local.segment(image))
    asked, ran = runs.since()
    assert asked == CLIENTS
    assert ran < CLIENTS
    with PlainClient(small_server, "grpc") as client:
        assert max(client.batches("fastsam_engine")) > 1


@pytest.mark.parametrize("model", ["fastsam", "fastsam_device"])
def test_different_questions_share_a_batch(small_server: Server, local: FastSAM, coffee: Path, model: str):
    """Prompts and thresholds of every kind, in the same runs of the network."""
    (image,) = _photographs(coffee, [(150, 100)])
    file, point, box = _file(image), [70, 40], [20, 10, 120, 80]
    kinds: list[tuple[dict[str, Any], Segments]] = [
        ({}, local.segment(image)),
        (
            {"prompts": [{"points": [point], "mode": "each"}]},
            local.segment(image, Points([point], mode="each")),
        ),
        (
            {"prompts": [{"boxes": [box]}], "conf": 0.25},
            local.segment(image, Boxes([box]), thresholds=Thresholds(conf=0.25)),
        ),
        ({"max_det": 2}, local.segment(image, thresholds=Thresholds(max_det=2))),
    ]
    network = "fastsam_engine" if model == "fastsam" else model
    runs = Runs(small_server, network)
    chosen = [kinds[i % len(kinds)] for i in range(CLIENTS)]
    answers = _all_at_once(small_server, "grpc", [lambda c, q=q: c.ask(model, file, prompt=q) for q, _ in chosen])
    for answer, (_, wanted) in zip(answers, chosen, strict=True):
        assert len(wanted) > 0
        assert_same(segments_of(answer), wanted)
    asked, ran = runs.since()
    assert asked == CLIENTS
    assert ran <= (CLIENTS / 2 if model == "fastsam_device" else CLIENTS - 1)


def test_requests_with_different_inputs(small_server: Server, local: FastSAM, coffee: Path):
    """Files and pixels, with PROMPT and without. Triton runs fastsam_device only for requests that carry the same
    inputs together; the ensemble's network sees tensors alone, and runs for all of them.
    """
    (image,) = _photographs(coffee, [(150, 100)])
    file, pixels = _file(image), np.asarray(image)[None]
    wanted = local.segment(image)
    for model, network in (("fastsam", "fastsam_engine"), ("fastsam_device", "fastsam_device")):
        kinds = [
            lambda c, m=model: c.ask(m, file),
            lambda c, m=model: c.ask(m, pixels=pixels),
            lambda c, m=model: c.ask(m, file, prompt={}),
            lambda c, m=model: c.ask(m, pixels=pixels, prompt={}),
        ]
        runs = Runs(small_server, network)
        for answer in _all_at_once(small_server, "grpc", [kinds[i % 4] for i in range(CLIENTS)]):
            assert_same(segments_of(answer), wanted)
        asked, ran = runs.since()
        assert asked == CLIENTS
        assert ran < CLIENTS or model == "fastsam_device"
