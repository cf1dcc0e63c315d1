"""Tables that name images: CSV and Parquet with a column `path`, and optional columns `id` and `prompts`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ....errors import ParameterError
from ..locations import arrow, is_url, local_path, open_store, store_errors
from .files import ListedFile, fingerprint_of
from .image import SourceImage

SUFFIXES = (".csv", ".parquet", ".pq")
_PATHS = ("path", "url", "image", "file_name")
_ROWS_AT_ONCE = 10_000


def is_table(name: str) -> bool:
    """Whether a file is a table, by its name.

    Example:
        >>> is_table("images.csv"), is_table("cat.jpg")
        (True, False)
    """
    return name.lower().endswith(SUFFIXES)


def table_images(table: ListedFile) -> Iterator[SourceImage]:
    """The images of a table, in its order.

    The path is a URL, or relative to the folder of the table. The id is the path as the table has it, if there is no
    column `id`. Columns `member`, `offset` and `size` name a member of a tar shard: so the dead letters of a run are a
    source again.

    Raises:
        ParameterError: a column or a value is missing.
        FastSamError: the table cannot be read.

    Example:
        >>> [image.id for image in table_images(ListedFile("images.csv", "images.csv", ""))]  # doctest: +SKIP
        ['cat.jpg', 'coffee.jpg']
    """
    folder = table.location.rpartition("/")[0] if is_url(table.location) else str(local_path(table.location).parent)
    for number, row in enumerate(_rows(table.location)):
        path = next((row[name] for name in _PATHS if row.get(name)), None)
        if not path:
            raise ParameterError(
                f"{table.location}: row {number + 1} names no image; expected a column {' or '.join(_PATHS)}, and a "
                "value in it"
            )
        location = _location(str(path), folder)
        member = row.get("member") or None
        yield SourceImage(
            id=str(row.get("id") or path),
            location=location,
            fingerprint="" if is_url(location) else fingerprint_of(local_path(location)),
            prompts=row.get("prompts") or None,
            member=member,
            offset=_whole(row.get("offset")) if member else None,
            size=_whole(row.get("size")) if member else None,
        )


def _location(path: str, folder: str) -> str:
    if is_url(path):
        return path
    return f"{folder}/{path}" if is_url(folder) else str(Path(folder, local_path(path)))


def _whole(value: Any) -> int | None:
    return None if value in (None, "") else int(value)


def _rows(location: str) -> Iterator[Mapping[str, Any]]:
    with store_errors(location, "read"):
        if is_url(location):
            store, path = open_store(location)
            stream = store.open(path, "rb")
        else:
            stream = local_path(location).open("rb")
        with stream:
            if location.lower().endswith(".csv"):
                yield from csv.DictReader(io.TextIOWrapper(stream, "utf-8-sig", newline=""))
                return
            wanted = {*_PATHS, "id", "prompts", "member", "offset", "size"}
            table = arrow("pyarrow.parquet").ParquetFile(stream)
            columns = [name for name in table.schema_arrow.names if name in wanted]
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
