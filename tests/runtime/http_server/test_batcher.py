"""Images of several threads go through the network together, and each gets what is its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastsam_deploy.runtime import FastSAM, ImageError, Segments, ServerError, Thresholds, load_image
from fastsam_deploy.runtime.http_server.admission import Deadline
from fastsam_deploy.runtime.http_server.batcher import Batcher
from fastsam_deploy.runtime.http_server.refusals import LateError
from tests.runtime.http_server.served import PHOTOS

Pixels = NDArray[np.uint8]


def image(width: int) -> Pixels:
    return np.zeros((4, width, 3), np.uint8)


class Gated:
    """A network that is held up until the test opens it; its answers are as wide as the images."""

    def __init__(self) -> None:
        self.entered, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.batches: list[list[int]] = []

    def __call__(self, images: Sequence[Pixels], thresholds: Sequence[Thresholds]) -> list[Segments]:
        assert len(images) == len(thresholds)
        self.batches.append([pixels.shape[1] for pixels in images])
        self.entered.release()
        assert self.gate.acquire(timeout=60)
        if any(pixels.shape[1] == 13 for pixels in images):
            raise ImageError("width 13")
        return [Segments.empty((4, pixels.shape[1])) for pixels in images]


def started(pool: ThreadPoolExecutor, batcher: Batcher, widths: Sequence[int], seconds: float = 60) -> list[Any]:
    """Futures of images that wait in the batcher, in this order."""
    futures = []
    for width in widths:
        before = batcher.waiting
        futures.append(pool.submit(batcher.segment, image(width), Thresholds(), Deadline(seconds)))
        while batcher.waiting == before:
            assert not futures[-1].done()
    return futures


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def held(pool: ThreadPoolExecutor, network: Gated, **settings: Any) -> tuple[Batcher, Any]:
    """A batcher whose network is busy with an image of width 1."""
    batcher = Batcher(network, **settings)
    first = pool.submit(batcher.segment, image(1), Thresholds(), Deadline(60))
    assert network.entered.acquire(timeout=60)
    return batcher, first


def test_what_waits_while_the_network_is_busy_becomes_batches_in_order(pool: ThreadPoolExecutor):
    network, sizes = Gated(), []
    batcher, first = held(pool, network, max_batch=3, observe=sizes.append)
    futures = started(pool, batcher, [2, 3, 4, 5])
    network.gate.release(9)
    assert first.result(60).image_hw == (4, 1)
    assert [future.result(60).image_hw[1] for future in futures] == [2, 3, 4, 5]
    assert network.batches == [[1], [2, 3, 4], [5]] and sizes == [1, 3, 1]
    batcher.close()


def test_the_image_that_fails_fails_alone(pool: ThreadPoolExecutor):
    network = Gated()
    batcher, _ = held(pool, network, max_batch=8)
    futures = started(pool, batcher, [2, 13, 3])
    network.gate.release(9)
    assert [future.result(60).image_hw[1] for future in (futures[0], futures[2])] == [2, 3]
    with pytest.raises(ImageError, match="width 13"):
        futures[1].result(60)
    batcher.close()


def test_what_nobody_waits_for_is_not_run(pool: ThreadPoolExecutor):
    network = Gated()
    batcher, first = held(pool, network, max_batch=8)
    (late,) = started(pool, batcher, [2], seconds=0.02)
    gone = Deadline(60)
    left = pool.submit(batcher.segment, image(3), Thresholds(), gone)
    while batcher.waiting < 2 and not late.done():
        pass
    with pytest.raises(LateError):
        late.result(60)
    gone.abandon()
    network.gate.release(9)
    first.result(60)
    with pytest.raises(LateError):
        left.result(60)
    batcher.close()
    assert network.batches == [[1]]


def test_closing_answers_what_waits_and_refuses_the_rest(pool: ThreadPoolExecutor):
    network = Gated()
    batcher, first = held(pool, network, max_batch=2)
    futures = started(pool, batcher, [2, 3, 4])
    closed = pool.submit(batcher.close)
    network.gate.release(9)
    assert [future.result(60).image_hw[1] for future in (first, *futures)] == [1, 2, 3, 4]
    closed.result(60)
    with pytest.raises(ServerError, match="shutting down"):
        batcher.segment(image(5), Thresholds(), Deadline(60))


def test_images_in_batches_get_what_they_get_alone(pool: ThreadPoolExecutor):
    photos = [load_image(PHOTOS / name) for name in ("cat.jpg", "coffee.jpg")]
    jobs = [(photos[i % 2], Thresholds(conf=0.2 + i / 20)) for i in range(8)]
    with FastSAM(imgsz=320, threads=1) as model:
        wanted = [model.segment(pixels, thresholds=thresholds) for pixels, thresholds in jobs]
        sizes: list[int] = []
        with Batcher(
            lambda images, thresholds: model.segment_batch(images, thresholds=thresholds),
            max_batch=4, max_delay_s=60, observe=sizes.append,
        ) as batcher:  # fmt: skip
            answers = list(pool.map(lambda job: batcher.segment(*job, Deadline(60)), jobs))
    assert sizes == [4, 4]
    for answer, expected in zip(answers, wanted, strict=True):
        assert len(answer) == len(expected) > 0
        np.testing.assert_allclose(answer.boxes_xyxy, expected.boxes_xyxy, atol=0.01)
        assert all((a != b).mean() < 0.001 for a, b in zip(answer.masks, expected.masks, strict=True))
