"""`FastSAM.segment_stream`: order, errors for each item, what is in memory, and that threads end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from fastsam_deploy.runtime import (
    FastSAM,
    ImageError,
    ParameterError,
    Points,
    PromptError,
    Segments,
    Thresholds,
    load_image,
)
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.segmenters.host import LocalSegmenter
from fastsam_deploy.runtime.segmenters.remote import RemoteSegmenter
from fastsam_deploy.runtime.segmenters.stream import in_order, segment_stream
from fastsam_deploy.runtime.settings import EngineSettings
from fastsam_deploy.runtime.wire.answer import answer_tensors

PATIENCE_S = 20


@pytest.fixture(scope="module")
def model(demo_onnx: Path) -> Iterator[FastSAM]:
    with FastSAM(demo_onnx, imgsz=320, conf=0.25) as opened:
        yield opened


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("fastsam-stream")]


def _same(a: Segments, b: Segments) -> None:
    np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.masks.dense(), b.masks.dense())


def test_results_are_those_of_segment_in_their_order(model: FastSAM, coffee: Path, cat: Path) -> None:
    images = [coffee, load_image(cat), cat.read_bytes(), str(coffee), load_image(coffee)[:, ::-1].copy()] * 2
    prompt = Points([[60, 70]], mode="each")
    items = list(model.segment_stream(images, prompt))
    assert [item.index for item in items] == list(range(10))
    assert all(item.source is image for item, image in zip(items, images, strict=True))
    for item in items:
        assert item.error is None and item.image is None
        _same(item.result(), model.segment(item.source, prompt))
    assert not _threads()


@pytest.mark.parametrize("prefetch", [None, 1])
@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_a_camera_may_use_one_buffer_for_all_frames(
    model: FastSAM, coffee: Path, prefetch: int | None, color: str
) -> None:
    first = load_image(coffee)
    frames = [first, first[:, ::-1], first[::-1], np.zeros_like(first)] * 2

    def camera() -> Iterator[np.ndarray]:
        buffer = np.empty_like(first)
        for frame in frames:
            buffer[:] = frame if color == "RGB" else frame[..., ::-1]
            yield buffer
            buffer[:] = 255

    items = list(model.segment_stream(camera(), color=color, prefetch=prefetch, keep_images=True))
    assert len(items) == len(frames)
    for item, frame in zip(items, frames, strict=True):
        np.testing.assert_array_equal(item.image, frame)
        _same(item.result(), model.segment(frame))


def test_frames_of_an_animation_are_those_it_stood_at(model: FastSAM, coffee: Path) -> None:
    """Pillow gives the same image for every frame, and moves it on."""
    first = Image.fromarray(load_image(coffee)[::2, ::2].copy())
    file = BytesIO()
    first.save(file, "TIFF", save_all=True, append_images=[first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    items = list(model.segment_stream(ImageSequence.Iterator(Image.open(file)), keep_images=True))
    expected = [np.asarray(first), np.asarray(first)[:, ::-1]]
    for item, frame in zip(items, expected, strict=True):
        np.testing.assert_array_equal(item.image, frame)


def test_a_source_of_new_arrays_needs_no_copies(coffee: Path) -> None:
    image, seen = load_image(coffee), []

    def segment(source: Any) -> tuple[Segments, None]:
        seen.append(source)
        return Segments.empty((4, 5)), None

    for copy_images in (True, False):
        list(segment_stream([image], segment, 1, 1, copy_images))
    assert not np.shares_memory(seen[0], image) and seen[1] is image


def test_buffers_of_encoded_images_may_be_used_again(model: FastSAM, coffee: Path, cat: Path) -> None:
    def socket() -> Iterator[bytearray | BytesIO]:
        for kind in (bytearray, BytesIO):
            buffer = kind()
            for path in (coffee, cat, coffee):
                content = path.read_bytes()
                if isinstance(buffer, BytesIO):
                    buffer.seek(0)
                    buffer.truncate()
                    buffer.write(content)
                else:
                    buffer[:] = content
                yield buffer

    items = list(model.segment_stream(socket(), keep_images=True))
    for item, path in zip(items, [coffee, cat, coffee] * 2, strict=True):
        np.testing.assert_array_equal(item.image, load_image(path))


def test_colour_and_thresholds_are_passed_on(model: FastSAM, cat: Path) -> None:
    bgr, limits = load_image(cat)[..., ::-1], Thresholds(conf=0.5, max_det=3)
    expected = model.segment(cat, thresholds=limits)
    assert 0 < len(expected) <= 3
    for keep in (False, True):
        (item,) = model.segment_stream([bgr], color="BGR", thresholds=limits, keep_images=keep)
        _same(item.result(), expected)


def test_images_are_kept_where_asked(model: FastSAM, cat: Path) -> None:
    (item,) = model.segment_stream([cat], keep_images=True)
    assert item.image is not None
    np.testing.assert_array_equal(item.image, load_image(cat))
    assert item.result().timing_ms["load"] > 0


def test_a_bad_image_or_prompt_is_an_error_of_its_own_item(model: FastSAM, coffee: Path, cat: Path) -> None:
    point = Points([[550, 50]])  # in the first, outside of the second
    items = list(model.segment_stream([coffee, cat, b"no image", "none.jpg", coffee], point))
    kinds = [type(item.error) for item in items]
    assert kinds == [type(None), PromptError, ImageError, ImageError, type(None)]
    assert "none.jpg" in str(items[3].error)
    with pytest.raises(ImageError, match=r"none\.jpg"):
        items[3].result()


def test_no_more_is_read_than_asked_for(model: FastSAM, cat: Path) -> None:
    read = 0

    def endless() -> Iterator[Path]:
        nonlocal read
        while True:
            read += 1
            yield cat

    stream = model.segment_stream(endless(), prefetch=3)
    assert read == 0, "nothing happens before the first result is asked for"
    for taken, _ in enumerate(stream, 1):
        assert read <= taken + 2  # three are held: the one that is handed out, and two more
        if taken == 4:
            break
    stream.close()
    assert not _threads()


def test_prefetch_of_one_runs_nothing_ahead() -> None:
    started: list[int] = []

    def segment(source: Any) -> Any:
        started.append(source)
        return source, None

    for taken, item in enumerate(segment_stream([0, 1, 2], segment, 4, 1), 1):  # type: ignore[list-item]
        assert len(started) == taken and item.index == taken - 1


@pytest.mark.parametrize("prefetch", [0, -1, 1.5, True])
def test_prefetch_is_checked_before_anything_runs(model: FastSAM, prefetch: Any) -> None:
    with pytest.raises(ParameterError, match="prefetch is"):
        model.segment_stream([], prefetch=prefetch)


def test_a_reader_that_fails_ends_the_threads(model: FastSAM, cat: Path) -> None:
    def read() -> None:
        for item in model.segment_stream([cat] * 50):
            assert item.segments is not None
            raise KeyError("of the reader")

    with pytest.raises(KeyError):
        read()
    assert not _threads()


def test_an_error_of_the_source_comes_after_the_results_before_it(model: FastSAM, cat: Path) -> None:
    def camera() -> Iterator[Path]:
        yield from (cat, cat)
        raise OSError("the camera was pulled out")

    seen = []
    with pytest.raises(OSError, match="pulled out"):
        seen.extend(item.index for item in model.segment_stream(camera(), prefetch=8))
    # `extend` keeps what came before the error.
    assert seen == [0, 1] and not _threads()


def test_a_bug_is_no_error_of_an_item() -> None:
    def segment(source: Any) -> Any:
        raise ZeroDivisionError(source)

    with pytest.raises(ZeroDivisionError):
        list(segment_stream([b""] * 5, segment, 2, 4))
    assert not _threads()


def test_order_is_kept_where_the_first_takes_longest() -> None:
    last_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert last_done.wait(PATIENCE_S)
        if number == 3:
            last_done.set()
        return number

    assert list(in_order(work, range(6), workers=3, ahead=4)) == list(range(6))


class Watched:
    """An engine that knows how many runs are under way, and waits until another image is being read meanwhile."""

    def __init__(self, engine: Any, **description: Any) -> None:
        self.spec, self.device = engine.spec, engine.device
        self.description = {**engine.description, **description}
        self._engine, self._lock = engine, threading.Lock()
        self.running = self.most = 0
        self.other_is_read = threading.Event()
        self.overlapped = False

    def run(self, images: Any) -> Any:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.overlapped |= self.other_is_read.wait(PATIENCE_S)
        try:
            return self._engine.run(images)
        finally:
            with self._lock:
                self.running -= 1

    def close(self) -> None:
        pass


def test_the_network_runs_for_one_while_others_are_read(demo_onnx: Path, cat: Path) -> None:
    with open_engine(demo_onnx) as engine:
        watched = Watched(engine)

        class Second(SimpleNamespace):
            """An array that says when it is looked at."""

            def __array__(self, *_: Any, **__: Any) -> Any:
                watched.other_is_read.set()
                return load_image(cat)

        first = load_image(cat)
        segmenter, workers = LocalSegmenter(watched, 320, runs_at_once=1).for_stream()

        def segment(source: Any) -> Any:
            pixels = source if isinstance(source, np.ndarray) else np.asarray(source)
            return segmenter.segment_batch([pixels], None, [Thresholds()], "RGB")[0], None

        items = list(segment_stream([first, Second(), first, first, first], segment, workers, 8))  # type: ignore[list-item]
        assert len(items) == 5 and all(item.segments is not None for item in items)
        assert watched.overlapped, "the second image was read while the first was in the network"
        assert watched.most == 1, "runs of the network take turns"


def test_as_many_runs_at_once_as_the_engine_is_made_for(demo_onnx: Path) -> None:
    for threads, runs in ((1, 1), (2, 2)):  # two runs of ONNX Runtime gain from each other where they can share threads
        with open_engine(demo_onnx, EngineSettings(threads=threads)) as engine:
            assert LocalSegmenter(engine).for_stream()[1] == runs + 2
    with open_engine(demo_onnx) as engine:
        assert LocalSegmenter(Watched(engine, streams=4)).for_stream()[1] == 6
        assert LocalSegmenter(Watched(engine), runs_at_once=8).for_stream()[1] == 10


def test_images_of_a_batch_have_runs_of_their_own_where_runs_gain_from_each_other(demo_onnx: Path, cat: Path) -> None:
    images = [load_image(cat)[:, : 300 + 32 * i] for i in range(3)] * 2
    with open_engine(demo_onnx, EngineSettings(threads=2)) as engine:
        watched = Watched(engine)
        watched.other_is_read.set()
        segmenter = LocalSegmenter(watched, 320)
        limits = [Thresholds()] * len(images)
        batch = segmenter.segment_batch(images, None, limits, "RGB")
        assert watched.most == 2 and len(batch) == len(images), "no more than two at once"
        for image, segments in zip(images, batch, strict=True):
            (alone,) = segmenter.segment_batch([image], None, [Thresholds()], "RGB")
            assert segments.masks == alone.masks and len(segments), "in the order of the images"


class Server:
    """Stands in for a `TritonClient`; answers every request with an error, and keeps what was sent."""

    def __init__(self, in_flight: int = 1, meanwhile: Any = None) -> None:
        values = {"fastsam_deploy": "{}", "imgsz": "640", "rect": "true"}
        self.config = {"parameters": {name: {"string_value": value} for name, value in values.items()}}
        self.address = SimpleNamespace(text="grpc://there:8001/fastsam", host="there:8001")
        self.in_flight = in_flight
        self.sent: list[Any] = []
        self._meanwhile = meanwhile or (lambda: None)

    def infer_many(self, requests: Any, _: Any) -> list[Any]:
        self._meanwhile()
        self.sent += requests
        return [RuntimeError("no server") for _ in requests]

    def close(self) -> None:
        pass


class OnServer(FastSAM):
    """An open model on a server that is not there."""

    def __init__(self, server: Any) -> None:
        self._start(lambda clip: RemoteSegmenter(server, clip=clip), Thresholds(), None, EngineSettings())


def test_of_a_server_several_requests_are_under_way() -> None:
    together = threading.Barrier(3)
    model = OnServer(Server(3, lambda: together.wait(PATIENCE_S)))
    image = np.zeros((8, 8, 3), np.uint8)
    items = list(model.segment_stream([image] * 6))
    assert len(items) == 6 and all("no server" in str(item.error) for item in items)


class Answering(Server):
    """Finds nothing in any image."""

    def infer_many(self, requests: Any, _: Any) -> list[Any]:
        self.sent += requests
        nothing = Segments.empty((8, 8))
        return [answer_tensors([nothing], ["bits"]) for _ in requests]


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "pixels"])
def test_a_server_gets_the_file_also_where_the_image_is_kept(cat: Path, kind: str) -> None:
    content, pixels = cat.read_bytes(), load_image(cat)
    source: Any = {"path": cat, "text": str(cat), "bytes": bytearray(content), "pixels": pixels}[kind]
    server = Answering()
    (item,) = OnServer(server).segment_stream([source], keep_images=True)
    assert item.error is None
    np.testing.assert_array_equal(item.image, pixels)
    (request,) = server.sent
    if kind == "pixels":
        assert set(request) == {"PIXELS", "PROMPT"}
    else:
        assert set(request) == {"IMAGE", "PROMPT"} and request["IMAGE"][0, 0] == content


def test_a_closed_model_is_an_error_of_each_item(demo_onnx: Path, cat: Path) -> None:
    model = FastSAM(demo_onnx, imgsz=320)
    model.close()
    items = list(model.segment_stream([cat, cat]))
    assert all("closed" in str(item.error) for item in items)
