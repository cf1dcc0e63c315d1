"""Paths, pipes, devices and streams: each is read, or refused in one line, and none is waited for without end."""

from __future__ import annotations

import base64
import io
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime.errors import ImageError
from fastsam_deploy.runtime.stages.image import ImageFile, encoded_bytes, load_image
from fastsam_deploy.runtime.stages.reading import opening

COFFEE = Path(__file__).parents[4] / "examples" / "images" / "coffee.jpg"


class Stream(io.RawIOBase):
    """Gives a few bytes at a time and cannot seek, as a connection does."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(memoryview(buffer)[:1000])


@pytest.mark.parametrize("kind", ["BytesIO", "BytesIO at its end", "file", "unbuffered", "connection"])
def test_streams_are_read_from_their_start_and_stay_open(kind: str) -> None:
    content = COFFEE.read_bytes()
    written = io.BytesIO()
    written.write(content)
    with COFFEE.open("rb") as file, COFFEE.open("rb", buffering=0) as unbuffered:
        file.seek(100)
        stream = {
            "BytesIO": io.BytesIO(content), "BytesIO at its end": written, "file": file, "unbuffered": unbuffered,
            "connection": Stream(content),
        }[kind]  # fmt: skip
        assert np.array_equal(load_image(stream), load_image(COFFEE))
        assert not stream.closed


def test_a_stream_is_sent_to_a_server_as_it_is() -> None:
    content = COFFEE.read_bytes()
    assert encoded_bytes(io.BytesIO(content)) == encoded_bytes(ImageFile(COFFEE)) == content
    assert encoded_bytes(ImageFile(COFFEE, bands=(3, 2, 1))) is None, "servers have no settings for that"
    assert encoded_bytes(np.zeros((1, 1, 3), np.uint8)) is None


def test_streams_that_cannot_be_read(tmp_path: Path) -> None:
    with COFFEE.open(encoding="latin-1") as text, pytest.raises(ImageError, match=r"coffee\.jpg: is open as text"):
        load_image(text)
    with COFFEE.open("rb") as file:
        pass
    with pytest.raises(ImageError, match="closed file"):
        load_image(file)
    with (tmp_path / "x").open("wb") as file, pytest.raises(ImageError, match="cannot be read"):
        load_image(file)


def test_a_stream_that_fails_is_an_image_error() -> None:
    class Failing(Stream):
        def readinto(self, _: object) -> int:
            raise ConnectionResetError("reset by peer")

    with pytest.raises(ImageError, match="stream: cannot be read"):
        load_image(Failing(b""))


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(opening, "PIPE_PATIENCE_S", 0.3)
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_named_pipe_is_read(pipe: Path) -> None:
    writer = threading.Thread(target=lambda: pipe.write_bytes(COFFEE.read_bytes()))
    writer.start()
    assert np.array_equal(load_image(pipe), load_image(COFFEE))
    writer.join()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("writes", [None, b"\xff\xd8\xff"], ids=["nobody writes", "the writer falls silent"])
def test_a_silent_pipe_is_not_waited_for_without_end(pipe: Path, writes: bytes | None) -> None:
    writer = os.open(pipe, os.O_RDWR) if writes is not None else None
    if writer is not None:
        os.write(writer, writes)
    try:
        with pytest.raises(ImageError, match=r"pipe: a pipe from which nothing has come for 0\.3 s"):
            load_image(pipe)
    finally:
        if writer is not None:
            os.close(writer)


def test_what_a_shell_makes_of_a_command_is_read() -> None:
    """`<(cat x.jpg)` is a path such as /dev/fd/63, /dev/stdin is another."""
    code = "import sys\nfrom fastsam_deploy.runtime import load_image\nprint(load_image(sys.argv[1]).shape)"
    for tail, options in ((f"<(cat '{COFFEE}')", {}), ("/dev/stdin", {"input": COFFEE.read_bytes()})):
        command = ["bash", "-c", f"exec '{sys.executable}' -c '{code}' {tail}"]
        done = subprocess.run(command, capture_output=True, check=False, **options)
        assert done.stdout.decode() == "(400, 600, 3)\n", done.stderr


@pytest.mark.timeout(20)
def test_a_device_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(ImageError, match="not an image, it begins with"):
        load_image("/dev/zero")
    with pytest.raises(ImageError, match="is empty"):
        load_image("/dev/null")


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(ImageError, match="cannot be opened"):
            load_image(tmp_path / "socket")


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0", b"RIFF\0\0\0\0WEBPVP8 "], ids=["JPEG", "WebP"])
def test_a_file_of_20_gigabytes_is_refused_by_its_size(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(20 * 2**30)
    for read in (load_image, encoded_bytes):
        with pytest.raises(ImageError, match=r"sparse\.jpg: the file has 21,474,836,480 bytes, the limit is"):
            read(path)


def test_a_name_that_is_too_long_is_one_line() -> None:
    with pytest.raises(ImageError, match="cannot be opened"):
        load_image("x" * 300 + ".jpg")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files of Linux")
def test_no_file_stays_open(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in (COFFEE, tmp_path / "bad.jpg", tmp_path, tmp_path / "none.jpg", "/dev/null"):
        for _ in range(3):
            try:
                load_image(path)
            except ImageError:
                continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before


BASE64 = base64.b64encode(COFFEE.read_bytes())


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(BASE64, id="base64"),
        pytest.param(base64.encodebytes(COFFEE.read_bytes()), id="lines"),
        pytest.param(base64.urlsafe_b64encode(COFFEE.read_bytes()).rstrip(b"="), id="alphabet of URLs, no padding"),
        pytest.param(b"data:image/jpeg;base64," + BASE64, id="data URL"),
        pytest.param("data:;base64," + BASE64.decode(), id="data URL as text"),
        pytest.param("DATA:image/jpeg;name=a.jpg;base64," + BASE64.decode(), id="parameters"),
        pytest.param(bytearray(BASE64), id="bytearray"),
    ],
)
def test_text_of_an_image_is_decoded(source: Any) -> None:
    assert np.array_equal(load_image(source), load_image(COFFEE))
    assert encoded_bytes(source) == COFFEE.read_bytes(), "a server gets the file"


@pytest.mark.parametrize("format_name", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM"])
def test_base64_of_every_format_is_known(format_name: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3)).save(stream, format_name)
    content = stream.getvalue()
    assert np.array_equal(load_image(base64.b64encode(content)), load_image(content))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            b"data:image/jpeg,%ff%d8",
            "data: URL that begins with b'data:image/jpeg,%ff%d8'; expected data:image/jpeg;base64",
        ),
        ("data:image/jpeg;base64,/9j/4AAQ?!", "base64 that cannot be decoded"),
        ("data:image/jpeg;base64,", "is empty"),
        ("data:text/html;base64,PGh0bWw+", "not an image, it begins with b'<html>'"),
        (BASE64[:2000] + b"\x00", "base64 that cannot be decoded"),
        (BASE64[:40000], "damaged or cut short"),
        (base64.b64encode(b"<html></html>" * 9), "not an image, it begins with b'PGh0bWw+"),
        (BASE64.decode(), "File name too long\\); if it is base64, put data:image/jpeg;base64, before it"),
    ],
)
def test_text_of_no_image_is_refused_in_one_short_line(source: bytes | str, message: str) -> None:
    with pytest.raises(ImageError, match=message.replace("+", "[+]")) as caught:
        load_image(source)
    assert len(str(caught.value)) < 300
