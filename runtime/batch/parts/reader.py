"""Reads what a run has written: as segments, image by image, or as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import FastSamError
from ...segments import Segments
from .job import Description
from .locations import arrow, damaged_parquet
from .output.plan import PARTS, existing_plan, number_of
from .output.schema import check_format, part_schema, segments_of_row
from .output.store import Store, StoredFile

_IMAGES_AT_ONCE = 64


@dataclass(frozen=True, slots=True, eq=False)
class SegmentedImage:
    """An image of a run. Either `segments` or `error` is None.

    Attributes:
        id: of the image.
        path: path or URL of its file, or of the shard that it is in.
        member: its name in the shard; None for a file of its own.
        sha256: of its bytes, hexadecimal; None if they could not be read.
        prompts: JSON of the prompts that were asked; None for everything.
        segments: of the image.
        error: why there are none.

    Example:
        >>> SegmentedImage("cat", "cat.jpg", None, None, None, None, FastSamError("cat.jpg: no such file")).id
        'cat'
    """

    id: str
    path: str
    member: str | None
    sha256: str | None
    prompts: str | None
    segments: Segments | None
    error: FastSamError | None

    def result(self) -> Segments:
        """The segments. Raises the error if there is one."""
        if self.segments is None:
            raise self.error or AssertionError("an image has segments or an error")
        return self.segments


class BatchResults:
    """The parts of a run, which may still go on: those that are there when they are read.

    Example:
        >>> for image in BatchResults("out"):  # doctest: +SKIP
        ...     print(image.id, image.error or len(image.segments))
        >>> BatchResults("out").to_arrow(["id", "scores"]).num_rows  # doctest: +SKIP
        1000000
    """

    def __init__(self, output: str) -> None:
        """
        Args:
            output: folder or URL.

        Raises:
            FastSamError: it is no output of `fastsam batch`.
        """
        self._store = Store(output)
        self.plan = existing_plan(self._store)

    @property
    def description(self) -> Description:
        """Model and settings of all images."""
        return self.plan.description

    def __len__(self) -> int:
        """Number of images that are done, those with an error included."""
        numbers = (number_of(file.name) for file in self._parts())
        return sum(self.plan.size_of(number) for number in numbers if number is not None)

    def __iter__(self) -> Iterator[SegmentedImage]:
        """Each image, in the order of the listing; a few are in memory at once.

        Raises:
            FastSamError: a part is damaged.
        """
        for file in self._parts():
            place = self._store.place(file.name)
            with damaged_parquet(place):
                for batch in self._opened(file).iter_batches(_IMAGES_AT_ONCE):
                    yield from (self._image(row, place) for row in batch.to_pylist())

    def to_arrow(self, columns: Sequence[str] | None = None) -> Any:
        """All images as a `pyarrow.Table`, in memory. `batches` gives them piece by piece.

        Args:
            columns: names of columns; None for all.

        Raises:
            FastSamError: a part is damaged.
        """
        schema = self._schema(columns)
        return arrow().Table.from_batches(list(self.batches(columns)), schema)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """All images as `pyarrow.RecordBatch`, piece by piece. Arguments and errors are those of `to_arrow`."""
        schema = self._schema(columns)
        for file in self._parts():
            with damaged_parquet(self._store.place(file.name)):
                for batch in self._opened(file).iter_batches(columns=schema.names):
                    yield batch.select(schema.names).cast(schema)

    def _schema(self, columns: Sequence[str] | None) -> Any:
        schema = part_schema(self.description)
        if columns is None:
            return schema
        unknown = [name for name in columns if name not in schema.names]
        if unknown:
            raise FastSamError(f"columns are {unknown}, expected some of {', '.join(schema.names)}")
        return arrow().schema([schema.field(name) for name in columns], schema.metadata)

    def _parts(self) -> list[StoredFile]:
        return [file for file in self._store.files(PARTS) if number_of(file.name) is not None]

    def _opened(self, file: StoredFile) -> Any:
        opened = arrow("pyarrow.parquet").ParquetFile(self._store.open(file.name))
        check_format(opened.schema_arrow.metadata, self._store.place(file.name))
        return opened

    def _image(self, row: dict[str, Any], place: str) -> SegmentedImage:
        error = None if row["error"] is None else FastSamError(row["error"])
        segments = None if error is not None else segments_of_row(row, self.description.class_names, place)
        texts = {name: row[name] for name in ("id", "path", "member", "sha256", "prompts")}
        return SegmentedImage(**texts, segments=segments, error=error)
