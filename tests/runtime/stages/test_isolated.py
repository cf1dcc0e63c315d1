"""Decoding in a process of its own: the same pixels and errors, and limits that hold."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.errors import ImageError, ParameterError
from fastsam_deploy.runtime.stages.image import ImageFile, load_image
from fastsam_deploy.runtime.stages.isolated import IsolatedLoader

COFFEE = Path(__file__).parents[3] / "examples" / "images" / "coffee.jpg"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def loader() -> Iterator[IsolatedLoader]:
    with IsolatedLoader(seconds=60) as opened:
        yield opened


def slow_bmp(width: int, height: int) -> bytes:
    """An RLE file of 4 bytes a row, whose rows are padded pixel by pixel by Pillow's decoder, written in Python."""
    rows, palette = b"\1\0\0\0" * height + b"\0\1", bytes(1024)
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows


def child_of(loader: IsolatedLoader) -> int:
    assert loader._child is not None
    return loader._child.pid


def test_the_pixels_are_the_same_for_every_source(loader: IsolatedLoader) -> None:
    expected, array = load_image(COFFEE), np.zeros((2, 3, 3), np.uint8)
    for source in (COFFEE, str(COFFEE), COFFEE.read_bytes(), io.BytesIO(COFFEE.read_bytes()), Image.open(COFFEE)):
        assert np.array_equal(loader.load_image(source), expected)
    assert loader.load_image(array) is load_image(array) or np.array_equal(loader.load_image(array), array)
    assert loader.load_image(COFFEE).flags.writeable


def test_what_is_chosen_and_said_goes_through(loader: IsolatedLoader, caplog: pytest.LogCaptureFixture) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (30, 40, 3)).astype(np.uint16)
    content = cv2.imencode(".png", stored)[1].tobytes()
    for given in (
        ImageFile(content, bands=(3, 1, 1)),
        ImageFile(content, range="minmax"),
        ImageFile(content, range=(0, 99)),
    ):
        assert np.array_equal(loader.load_image(given), load_image(given))
    caplog.clear()
    loader.load_image(content, name="x.png")
    assert caplog.messages[0].startswith("x.png: its values use 12 of 16 bits")


def test_errors_are_the_same(loader: IsolatedLoader, tmp_path: Path) -> None:
    for source, settings in (
        (b"hello", {}), (COFFEE.read_bytes()[:5000], {}), (tmp_path / "none.jpg", {}), (COFFEE, {"max_pixels": 9}),
        (ImageFile(COFFEE, page=4), {}), (None, {}),
    ):  # fmt: skip
        with pytest.raises(ImageError) as here:
            load_image(source, **settings)
        with pytest.raises(ImageError) as there:
            loader.load_image(source, **settings)
        assert str(there.value) == str(here.value)


def test_time_is_limited_and_the_next_image_is_read() -> None:
    with IsolatedLoader(seconds=1) as loader:
        loader.load_image(COFFEE)
        first, start = child_of(loader), monotonic()
        with pytest.raises(ImageError, match=r"x\.bmp: decoding it takes more than 1 s"):
            loader.load_image(slow_bmp(140_000, 1275), name="x.bmp")
        assert monotonic() - start < 5
        assert loader.load_image(COFFEE).shape == (400, 600, 3)
        assert child_of(loader) != first
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux limits memory")
def test_memory_is_limited() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (12_000, 12_000)).save(stream, "PNG", compress_level=1)
    with IsolatedLoader(seconds=60, memory_bytes=100_000_000) as loader:
        with pytest.raises(ImageError, match=r"memory|MiB"):
            loader.load_image(stream)
        assert loader.load_image(COFFEE).shape == (400, 600, 3)


def test_a_child_that_dies_is_an_error_of_its_image_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with IsolatedLoader(seconds=20) as loader:
        loader.load_image(COFFEE)
        stopped = threading.Timer(0.3, os.kill, (child_of(loader), 9))
        stopped.start()
        with pytest.raises(ImageError, match=r"bytes: the process that decodes it has ended"):
            loader.load_image(slow_bmp(140_000, 1275))
        stopped.join()
        assert loader.load_image(COFFEE).shape == (400, 600, 3)


def test_an_interrupted_question_does_not_answer_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with IsolatedLoader() as loader:
        loader.load_image(COFFEE)
        with monkeypatch.context() as patched:
            patched.setattr("fastsam_deploy.runtime.isolation.process.read_header", interrupted)
            with pytest.raises(KeyboardInterrupt):
                loader.load_image(COFFEE)
        assert loader.load_image(np.asarray(Image.open(COFFEE))).shape == (400, 600, 3)
        small = io.BytesIO()
        Image.new("RGB", (5, 4)).save(small, "PNG")
        assert loader.load_image(small).shape == (4, 5, 3)


def interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_many_threads_get_their_own_images(loader: IsolatedLoader) -> None:
    contents = []
    for i in range(12):
        stream = io.BytesIO()
        Image.new("RGB", (5 + i, 4), (i, i, i)).save(stream, "PNG")
        contents.append(stream.getvalue())
    wrong = []

    def read(i: int) -> None:
        pixels = loader.load_image(contents[i])
        if pixels.shape != (4, 5 + i, 3) or (pixels != i).any():
            wrong.append(i)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_the_child_is_not_shared(loader: IsolatedLoader) -> None:
    loader.load_image(COFFEE)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def work() -> None:
        pixels = loader.load_image(COFFEE)
        answers.put((pixels.shape, child_of(loader)))
        loader.close()

    process = context.Process(target=work)
    process.start()
    shape, forked = answers.get(timeout=60)
    process.join()
    assert shape == (400, 600, 3)
    assert forked != child_of(loader)
    assert loader.load_image(COFFEE).shape == (400, 600, 3)


def test_closed_twice_and_used_again() -> None:
    loader = IsolatedLoader()
    loader.close()
    loader.load_image(COFFEE)
    child = child_of(loader)
    loader.close()
    loader.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert loader.load_image(COFFEE).shape == (400, 600, 3)
    loader.close()


@pytest.mark.parametrize("limits", [{"seconds": 0}, {"seconds": True}, {"memory_bytes": -1}, {"seconds": float("inf")}])
def test_limits_out_of_range(limits: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="expected a number above 0"):
        IsolatedLoader(**limits)


def test_a_stream_of_isolated_files_has_an_error_for_the_bomb_alone() -> None:
    with IsolatedLoader(seconds=2) as loader, FastSAM(imgsz=160) as model:
        loader.start()
        sources = [ImageFile(source, loader=loader) for source in (COFFEE, slow_bmp(140_000, 1275), COFFEE)]
        first, bomb, last = model.segment_stream(sources, keep_images=True)
        assert first.result() == last.result() == model.segment(COFFEE)
        assert np.array_equal(last.image, load_image(COFFEE))
        with pytest.raises(ImageError, match="decoding it takes more than 2 s"):
            bomb.result()


def test_an_image_file_asks_its_loader_with_all_settings(loader: IsolatedLoader) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (30, 40, 3)).astype(np.uint16)
    content = cv2.imencode(".png", stored)[1].tobytes()
    given = ImageFile(content, bands=(3, 1, 1), range="minmax", loader=loader)
    assert np.array_equal(load_image(given), load_image(replace(given, loader=None)))
    with pytest.raises(ImageError, match="x: 40×30 are 1,200 pixels, the limit is 9"):
        load_image(given, max_pixels=9, name="x")


def test_a_loader_that_is_dropped_ends_its_child() -> None:
    loader = IsolatedLoader()
    loader.load_image(COFFEE)
    child = child_of(loader)
    del loader
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_that_drops_its_copy_leaves_the_child_alone(loader: IsolatedLoader) -> None:
    loader.load_image(COFFEE)
    first = child_of(loader)
    forked = os.fork()
    if not forked:
        loader.__dict__.clear()
        gc.collect()
        os._exit(0)
    os.waitpid(forked, 0)
    assert loader.load_image(COFFEE).shape == (400, 600, 3)
    assert child_of(loader) == first


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="the system has no alarms")
def test_a_child_that_hangs_ends_without_its_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own alarm ends it: nobody waits for the answer of a decoder when the parent was killed."""
    code = "import time; from fastsam_deploy.runtime.isolation import questions; questions._GRACE_S = 0\n"
    code += "with questions.ends_after(0.5): time.sleep(60)"
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert ended.returncode == -signal.SIGALRM
