"""An image file as a stream that can be read from its start, wherever it comes from."""

from __future__ import annotations

import errno
import io
import os
import re
import selectors
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeGuard

from ...errors import ImageError
from .base64_text import decode_text, is_data_url
from .formats import SIGNATURE_BYTES, image_format

EncodedSource = str | Path | bytes | bytearray | memoryview | IO[bytes]
"""A file, not decoded: its path, its content (also as base64 or a `data:` URL), or a stream open for reading bytes."""

MAX_FILE_BYTES = 2**31
"""Limit of a file that is read as a whole. Of TIFF files, which may be larger, only one page is read."""

PIPE_PATIENCE_S = 60.0
"""A named pipe from which nothing has come for so long is an error: perhaps nobody writes to it."""

_CHUNK = 1 << 20

_LONGEST_NAME = 4096  # characters, as many as a path has at most; a longer text is something else


def is_encoded(source: object) -> TypeGuard[EncodedSource]:
    """Whether it is a file that has to be decoded: a path, bytes, or something that can be read from.

    >>> is_encoded("photo.jpg"), is_encoded([[0, 0]])
    (True, False)
    """
    return isinstance(source, str | Path | bytes | bytearray | memoryview) or callable(getattr(source, "read", None))


def source_name(source: object) -> str:
    """What messages call a file that the caller has given no name."""
    if isinstance(source, str | Path):
        text = str(source)
        return text if len(text) <= _LONGEST_NAME else f"{text[:40]}…"
    if isinstance(source, bytes | bytearray | memoryview):
        return "bytes"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "stream"


@contextmanager
def opened(source: EncodedSource, name: str) -> Iterator[IO[bytes]]:
    """The file as a stream that can seek, at its start. Streams of the caller stay open.

    Raises:
        ImageError: it is missing, a folder, or cannot be read; a pipe stays silent for `PIPE_PATIENCE_S`.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(decode_text(buffer_bytes(source, name), name))
    elif isinstance(source, str) and is_data_url(source):
        yield io.BytesIO(decode_text(source.encode(errors="replace"), name))
    elif isinstance(source, str | Path):
        with _opened_path(Path(source), name) as stream:
            yield stream
    else:
        yield _from_start(source, name)


def buffer_bytes(source: bytes | bytearray | memoryview, name: str) -> bytes:
    """The bytes of a buffer.

    Raises:
        ImageError: it is a view that was released.
    """
    try:
        return bytes(source)
    except ValueError as error:
        raise ImageError(f"{name}: cannot be read ({error}); expected a buffer that is still in use") from error


def file_content(source: EncodedSource, name: str) -> bytes:
    """The whole content, not decoded.

    Raises:
        ImageError: see `opened`; or it is larger than `MAX_FILE_BYTES`.
    """
    with opened(source, name) as stream:
        check_bytes(stream, name)
        return stream.read()


def check_bytes(stream: IO[bytes], name: str) -> None:
    """Refuse a stream that is too large to be read as a whole; it is at its start afterwards.

    Raises:
        ImageError: it has more than `MAX_FILE_BYTES`.
    """
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if size > MAX_FILE_BYTES:
        raise _too_large(f"{size:,}", name)


def _too_large(size: str, name: str) -> ImageError:
    return ImageError(
        f"{name}: the file has {size} bytes, the limit is {MAX_FILE_BYTES:,}; expected an image; make it smaller"
    )


def _opened_path(path: Path, name: str) -> IO[bytes]:
    # Without O_NONBLOCK, opening a named pipe waits until somebody writes to it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        hint = "download it first" if re.match(r"\w{2,}:/", name) else f"looked in {Path.cwd()}"
        raise ImageError(f"{name}: no such file; expected an image; {hint}") from error
    except (OSError, ValueError) as error:
        if os.path.isdir(path):  # noqa: PTH112 - on Windows; unlike Path.is_dir it raises nothing
            raise _folder(name) from error
        hint = "check the path and its permissions"
        if getattr(error, "errno", None) == errno.ENAMETOOLONG:
            hint = "if it is base64, put data:image/jpeg;base64, before it, or give the decoded bytes"
        raise ImageError(f"{name}: cannot be opened ({_reason(error)}); {hint}") from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    try:
        return _from_descriptor(descriptor, name)
    finally:
        os.close(descriptor)


def _from_descriptor(descriptor: int, name: str) -> IO[bytes]:
    """The content of what is no regular file: a pipe or a device."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise _folder(name)
    if not stat.S_ISFIFO(mode):
        os.set_blocking(descriptor, True)
        return _all_of(lambda: os.read(descriptor, _CHUNK), name)
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)

        def read() -> bytes:
            if not selector.select(PIPE_PATIENCE_S):
                raise ImageError(
                    f"{name}: a pipe from which nothing has come for {PIPE_PATIENCE_S:g} s; expected an image; "
                    "write to it, or name a file"
                )
            return os.read(descriptor, _CHUNK)

        return _all_of(read, name)


def _folder(name: str) -> ImageError:
    return ImageError(f"{name}: is a folder; expected an image file; give the files in it one by one")


def _from_start(stream: IO[Any], name: str) -> IO[bytes]:
    if isinstance(stream, io.TextIOBase):  # type: ignore[unreachable]
        raise ImageError(f"{name}: is open as text; expected bytes; open it with open(path, 'rb')")
    try:
        stream.seek(0)
    except (AttributeError, OSError):  # a pipe or a connection
        return _all_of(lambda: stream.read(_CHUNK), name)
    except ValueError as error:
        raise ImageError(f"{name}: cannot be read ({error}); expected a stream that is open") from error
    return stream


def _all_of(read: Callable[[], bytes], name: str) -> IO[bytes]:
    """What `read` gives until it gives nothing. Where it begins like no image, the rest is not waited for."""
    content, checked = bytearray(), False
    while True:
        try:
            chunk = read()
        except ImageError:
            raise
        except Exception as error:  # streams of callers raise what they like
            raise ImageError(f"{name}: cannot be read ({_reason(error)}); get the file first") from error
        content += chunk
        if not checked and (len(content) >= SIGNATURE_BYTES or not chunk):
            image_format(bytes(content[:SIGNATURE_BYTES]), name)
            checked = True
        if len(content) > MAX_FILE_BYTES:
            raise _too_large(f"more than {MAX_FILE_BYTES:,}", name)
        if not chunk:
            return io.BytesIO(content)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
