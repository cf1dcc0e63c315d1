"""The listed images of a run, as they are stored: one row group of a Parquet file for each chunk."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from ....errors import FastSamError
from ..locations import arrow
from ..sources.image import SourceImage
from .plan import LISTING, Generation, Plan
from .store import Store

CHUNKS_IN_FILE = 1000
"""Chunks that share a file of the listing."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A unit of work: images whose results become one part.

    Attributes:
        number: of the chunk, and of its part.
        images: in the order of the rows of the part.

    Example:
        >>> Chunk(3, (SourceImage("cats/1.jpg", "/photos/cats/1.jpg"),)).number
        3
    """

    number: int
    images: tuple[SourceImage, ...]


class Listing:
    """Reads the chunks of a plan. Not for several threads at once.

    Example:
        >>> Listing(Store("out"), plan).chunk(3).images[0].id  # doctest: +SKIP
        'cats/769.jpg'
    """

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan = store, plan
        self._name, self._file = "", None

    def chunk(self, number: int) -> Chunk:
        """The images of a chunk.

        Raises:
            FastSamError: the file is missing or damaged.
        """
        name, row_group = _place(self._plan.generation_of(number), number)
        try:
            if name != self._name:
                self._file = arrow("pyarrow.parquet").ParquetFile(self._store.open(name))
                self._name = name
            rows = self._opened().read_row_group(row_group).to_pylist()
            return Chunk(number, tuple(SourceImage(**row) for row in rows))
        except (OSError, TypeError, ValueError, IndexError) as error:
            raise FastSamError(
                f"{self._store.place(name)}: chunk {number} cannot be read ({error}); choose another --output"
            ) from error

    def images(self) -> Iterator[SourceImage]:
        """All images, in the order of their chunks. Raises FastSamError as `chunk` does."""
        for number in self._plan.numbers():
            yield from self.chunk(number).images

    def _opened(self) -> Any:
        return self._file


def write_listing(store: Store, first_chunk: int, chunk_images: int, images: Iterable[SourceImage]) -> Generation:
    """Store images as a generation of a plan, in the order in which they are given.

    Args:
        store: the output.
        first_chunk: number of the first chunk.
        chunk_images: images of a chunk.
        images: at least one; read one by one.

    Raises:
        FastSamError: it cannot be written.

    Example:
        >>> write_listing(Store("out"), 0, 256, images).chunks  # doctest: +SKIP
        3907
    """
    rest, count = iter(images), 0
    first = first_chunk
    while chunks := _chunks(rest, chunk_images):
        store.write(f"{LISTING}/{first:09d}.parquet", _content(chunks))
        first += len(chunks)
        count += sum(map(len, chunks))
    return Generation(first_chunk, count, chunk_images)


def _chunks(images: Iterator[SourceImage], chunk_images: int) -> list[list[SourceImage]]:
    """The images of one file, by chunk."""
    chunks: list[list[SourceImage]] = []
    while len(chunks) < CHUNKS_IN_FILE and (chunk := list(islice(images, chunk_images))):
        chunks.append(chunk)
    return chunks


def _content(chunks: Sequence[Sequence[SourceImage]]) -> bytes:
    pa = arrow()
    types = {field.name: _type_of(field.name) for field in fields(SourceImage)}
    schema = pa.schema(list(types.items()))
    stream = io.BytesIO()
    with arrow("pyarrow.parquet").ParquetWriter(stream, schema, compression="zstd") as writer:
        for chunk in chunks:
            columns = [pa.array([getattr(image, name) for image in chunk], kind) for name, kind in types.items()]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return stream.getvalue()


def _type_of(name: str) -> Any:
    return arrow().int64() if name in ("offset", "size") else arrow().string()


def _place(generation: Generation, number: int) -> tuple[str, int]:
    """The file of a chunk, and its row group there."""
    row_group = (number - generation.first_chunk) % CHUNKS_IN_FILE
    return f"{LISTING}/{number - row_group:09d}.parquet", row_group
