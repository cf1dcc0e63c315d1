"""All images of a source, whatever it is: files, tables that name images, tar shards, and several of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from ....errors import ImageError
from ....stages.reading.formats import readable_suffixes
from ...records import absolute
from ..locations import is_url, local_path
from .files import ListedFile, listed_files
from .image import SourceImage
from .shards import is_shard, shard_images
from .tables import is_table, table_images

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def source_images(source: str, exclude: str | None = None) -> Iterator[SourceImage]:
    """The images of a source, in a fixed order, read one by one.

    Args:
        source: a folder (with its sub-folders), a pattern, an image, a table (`.csv`, `.parquet`), a tar shard, or
            shards as WebDataset writes them: `train-{000..127}.tar`. Paths, or URLs that fsspec knows.
        exclude: a folder that is not searched, such as the output.

    Raises:
        FastSamError: there is no image, or something cannot be read.

    Example:
        >>> [image.id for image in source_images("photos")]  # doctest: +SKIP
        ['cat.jpg', 'dogs/1.jpg', 'dogs/2.jpg']
    """
    suffixes, count = readable_suffixes(), 0
    for file in _files(source, exclude):
        for image in _images_of(file, suffixes, tables=is_table(source)):
            count += 1
            yield image
    if not count:
        raise ImageError(
            f"{source}: no image found; expected images, tables (.csv, .parquet) or tar shards, such as "
            f"files ending in {' '.join(sorted(suffixes))}"
        )


def _files(source: str, exclude: str | None) -> Iterator[ListedFile]:
    if not is_url(source):
        source = absolute(local_path(source))  # the listing is read by others, and later
    for part in _expanded(source):
        yield from listed_files(part, exclude)


def _expanded(source: str) -> list[str]:
    """`a-{00..02}.tar` as a-00.tar, a-01.tar, a-02.tar.

    Example:
        >>> list(_expanded("a-{08..10}.tar"))
        ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    braces = _BRACES.search(source)
    if braces is None:
        return [source]
    first, last = braces[1], braces[2]
    numbers = range(int(first), int(last) + 1)
    return [
        name
        for number in numbers
        for name in _expanded(f"{source[: braces.start()]}{number:0{len(first)}d}{source[braces.end() :]}")
    ]


def _images_of(file: ListedFile, suffixes: frozenset[str], tables: bool) -> Iterator[SourceImage]:
    """The images of a file. A table in a folder of images is somebody else's: only one that is named is read."""
    if tables and is_table(file.name):
        yield from table_images(file)
    elif is_shard(file.name):
        yield from shard_images(file)
    elif PurePosixPath(file.name).suffix.lower() in suffixes:
        yield SourceImage(file.name, file.location, file.fingerprint)
