"""The bytes of listed images: files, objects of a store, members of tar shards."""

from __future__ import annotations

import tarfile
import time
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from typing import IO

from ....errors import FastSamError, ImageError
from ....segmenters.stream import in_order
from ....stages.reading.opening import MAX_FILE_BYTES, file_content
from ..locations import is_url, local_path, open_store, stored_text
from .image import SourceImage

Content = bytes | ImageError
"""The bytes of an image, or why there are none."""

_THREADS_LOCAL, _THREADS_REMOTE = 2, 8
_TRIES, _FIRST_WAIT_S = 5, 0.5
_FOREIGN = ("http://", "https://")
"""Servers of anybody: one that does not answer is the fault of one image."""


def contents(images: Sequence[SourceImage]) -> Generator[tuple[SourceImage, Content], None, None]:
    """The bytes of images, in their order. Some are read ahead, by several threads.

    Raises:
        FastSamError: an object store does not answer, after several tries.

    Example:
        >>> [(image, content)] = contents([SourceImage("a", "no-such-file.jpg")])
        >>> image.id, type(content).__name__
        ('a', 'ImageError')
    """
    for in_stream, group in groupby(images, key=_needs_stream):
        if in_stream:
            for location, members in groupby(group, key=lambda image: image.location):
                yield from _streamed(location, list(members))
        else:
            listed = list(group)
            remote = any(is_url(image.location) for image in listed)
            threads = _THREADS_REMOTE if remote else _THREADS_LOCAL
            with closing(in_order(_with_content, listed, threads, 2 * threads)) as results:
                yield from results


def content_of(image: SourceImage) -> Content:
    """The bytes of one image.

    Raises:
        FastSamError: an object store does not answer, after several tries.

    Example:
        >>> isinstance(content_of(SourceImage("a", "no-such-file.jpg")), ImageError)
        True
    """
    [(_, content)] = contents([image])
    return content


def _needs_stream(image: SourceImage) -> bool:
    return image.member is not None and image.offset is None


def _with_content(image: SourceImage) -> tuple[SourceImage, Content]:
    try:
        if is_url(image.location):
            return image, _fetched(image)
        if image.offset is None:
            return image, file_content(local_path(image.location), image.location)
        return image, _section(image)
    except ImageError as error:
        return image, error


def _section(image: SourceImage) -> bytes:
    """A member of a local shard. Raises ImageError."""
    size = image.size or 0
    try:
        with local_path(image.location).open("rb") as file:
            file.seek(image.offset or 0)
            content = file.read(size)
    except OSError as error:
        raise ImageError(f"{image.location}: cannot be read ({error.strerror}); check the path") from error
    if len(content) != size:
        raise ImageError(f"{image.location}: ends within {image.member}; expected the shard as it was listed")
    return content


def _fetched(image: SourceImage) -> bytes:
    """An object, or a range of one. Raises ImageError; FastSamError if the store does not answer."""
    store, path = open_store(image.location)
    end = None if image.offset is None else image.offset + (image.size or 0)
    for attempt in range(_TRIES):
        try:
            content: bytes = store.cat_file(path, start=image.offset, end=end)
            break
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            reason = str(error) or type(error).__name__
            raise ImageError(f"{image.location}: cannot be read ({reason}); check the address") from error
        except Exception as error:  # stores raise classes of their own
            if attempt == _TRIES - 1:
                kind = ImageError if image.location.startswith(_FOREIGN) else FastSamError
                raise kind(
                    f"{image.location}: cannot be read after {_TRIES} tries ({error or type(error).__name__}); check "
                    "the store, and run the same command again"
                ) from error
            time.sleep(_FIRST_WAIT_S * 2**attempt)
    if len(content) > MAX_FILE_BYTES:
        raise ImageError(f"{image.location}: has {len(content):,} bytes, the limit is {MAX_FILE_BYTES:,}")
    return content


@contextmanager
def opened_shard(location: str) -> Iterator[tarfile.TarFile]:
    """A tar file, read as a stream from its beginning to its end, compressed or not.

    Raises:
        ImageError: it cannot be opened.

    Example:
        >>> with opened_shard("train-000.tar") as shard:  # doctest: +SKIP
        ...     names = [member.name for member in shard]
    """
    try:
        with _opened(location) as file, _tar_stream(file) as shard:
            yield shard
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{location}: cannot be read ({reason}); expected a tar file") from error


def _tar_stream(file: IO[bytes]) -> tarfile.TarFile:
    """The tar file. Raises OSError or TarError: the reader of gzip's header raises a TypeError where it is cut off."""
    try:
        return tarfile.open(fileobj=file, mode="r|*")
    except (TypeError, ValueError) as error:
        raise tarfile.ReadError("its header is damaged or cut off") from error


def _opened(location: str) -> IO[bytes]:
    if not is_url(location):
        return local_path(location).open("rb")
    store, path = open_store(location)
    stream: IO[bytes] = store.open(path, "rb")
    return stream


def _streamed(location: str, images: list[SourceImage]) -> Iterator[tuple[SourceImage, Content]]:
    """Members of a shard that cannot be read at a position, in the order of the shard."""
    waiting = {image.member: image for image in images}
    try:
        with opened_shard(location) as shard:
            for member in shard:
                image = waiting.pop(stored_text(member.name), None)
                if image is not None:
                    file = shard.extractfile(member)
                    yield image, b"" if file is None else file.read()
                if not waiting:
                    return
    except ImageError as error:
        for image in waiting.values():
            yield image, error
        return
    for image in waiting.values():
        yield image, ImageError(f"{location}: has no {image.member}; expected the shard as it was listed")
