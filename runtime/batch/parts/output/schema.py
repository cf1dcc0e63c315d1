"""The columns of a part, and an image as a row of plain values. docs/million.md describes them for users."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .... import __version__
from ....documents import dump
from ....errors import FastSamError
from ....formats import NO_PROMPT, LoadedColumns
from ....masks.store import Masks
from ....segments import Segments
from ..job import Description
from ..locations import arrow, stored_text
from ..sources.image import SourceImage

FORMAT = "1"
"""Version of the columns, in the metadata `fastsam.format` of each part. A reader refuses a later one."""

Row = dict[str, Any]
"""An image: name of the column → plain value."""


def part_schema(description: Description | None = None) -> Any:
    """The Arrow schema of a part.

    Args:
        description: of the run, for the metadata of the schema; None for the columns alone.

    Example:
        >>> part_schema().names[:4]  # doctest: +SKIP
        ['id', 'path', 'member', 'sha256']
    """
    pa = arrow()
    numbers = {"scores": pa.float32(), "classes": pa.int32(), "areas": pa.int64(), "rle": pa.string()}
    answers = {"prompt": pa.int32(), "fits": pa.float32(), "probabilities": pa.float32()}
    columns = {
        **{"id": pa.string(), "path": pa.string(), "member": pa.string(), "sha256": pa.string()},
        **{"height": pa.int32(), "width": pa.int32(), "boxes_xyxy": pa.list_(pa.list_(pa.float32(), 4))},
        **{name: pa.list_(kind) for name, kind in {**numbers, **answers}.items()},
        **{"prompts": pa.string(), "model": pa.string(), "settings_sha256": pa.string()},
        **{"error_kind": pa.string(), "error": pa.string()},
    }
    metadata = {"fastsam.format": FORMAT, "fastsam.version": __version__}
    if description is not None:
        metadata |= {
            "fastsam.class_names": dump(list(description.class_names)),
            "fastsam.settings": dump(description.settings, sort_keys=True),
        }
    return pa.schema([pa.field(name, kind) for name, kind in columns.items()], metadata)


def failed_schema() -> Any:
    """The Arrow schema of a dead-letter part, which is also a table that can be a source again.

    Example:
        >>> failed_schema().names  # doctest: +SKIP
        ['id', 'path', 'member', 'offset', 'size', 'sha256', 'prompts', 'error_kind', 'error']
    """
    pa = arrow()
    texts = ("id", "path", "member", "sha256", "prompts", "error_kind", "error")
    fields = [pa.field(name, pa.string()) for name in texts]
    return pa.schema(
        [*fields[:3], pa.field("offset", pa.int64()), pa.field("size", pa.int64()), *fields[3:]],
        {"fastsam.format": FORMAT},
    )


def row_of_segments(image: SourceImage, sha256: str, segments: Segments, prompts: str | None) -> Row:
    """A row of plain values, without those that all rows of a run share.

    Args:
        image: that was segmented.
        sha256: of its bytes, hexadecimal.
        segments: of the image.
        prompts: JSON of the prompts that were asked; None for everything.

    Example:
        >>> row_of_segments(SourceImage("a", "a.jpg"), "00", Segments.empty((4, 5)), None)["width"]
        5
    """
    height, width = segments.image_hw
    return {
        **_row(image, sha256, prompts),
        **{"height": height, "width": width, "boxes_xyxy": segments.boxes_xyxy.tolist()},
        **{"scores": segments.scores.tolist(), "classes": segments.classes.tolist(), "areas": segments.areas.tolist()},
        "rle": [mask["counts"] for mask in segments.masks.rle()],
        "prompt": [None if number == NO_PROMPT else number for number in segments.prompts.tolist()],
        **{"fits": _or_none(segments.fits), "probabilities": _or_none(segments.probabilities)},
    }


def row_of_error(image: SourceImage, sha256: str | None, kind: str, message: str, prompts: str | None) -> Row:
    """A row of an image that could not be segmented.

    Example:
        >>> row_of_error(SourceImage("a", "a.jpg"), None, "ImageError", "a.jpg: no such file", None)["error_kind"]
        'ImageError'
    """
    return {**_row(image, sha256, prompts), "error_kind": kind, "error": stored_text(message)}


def _row(image: SourceImage, sha256: str | None, prompts: str | None) -> Row:
    return {"id": image.id, "path": image.location, "member": image.member, "sha256": sha256, "prompts": prompts}


def _or_none(values: NDArray[np.float32]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]


def part_bytes(rows: Sequence[Row], description: Description) -> bytes:
    """A part as the content of a Parquet file.

    Example:
        >>> part_bytes([], Description("", {}, ("object",)))[:4]  # doctest: +SKIP
        b'PAR1'
    """
    shared = {"model": description.model, "settings_sha256": description.settings_sha256}
    return parquet_bytes([{**row, **shared} for row in rows], part_schema(description))


def parquet_bytes(rows: Sequence[Row], schema: Any) -> bytes:
    """Rows as the content of a Parquet file. Equal rows give equal bytes.

    Example:
        >>> parquet_bytes([], part_schema())[:4]  # doctest: +SKIP
        b'PAR1'
    """
    stream = io.BytesIO()
    table = arrow().Table.from_pylist(rows, schema)
    arrow("pyarrow.parquet").write_table(table, stream, compression="zstd")
    return stream.getvalue()


def check_format(metadata: Mapping[bytes, bytes] | None, place: str) -> None:
    """Refuse a file of another program, or of a later version.

    Raises:
        FastSamError: it is one.

    Example:
        >>> check_format({b"fastsam.format": b"1"}, "part")
    """
    version = (metadata or {}).get(b"fastsam.format", b"none").decode(errors="replace")
    if version != FORMAT:
        raise FastSamError(
            f"{place}: has format {version}, expected {FORMAT}, as `fastsam batch` of this version writes it; read it "
            "with the version that wrote it"
        )


def segments_of_row(row: Mapping[str, Any], class_names: tuple[str, ...], place: str) -> Segments:
    """The segments of a row of a part.

    Args:
        row: column → plain value, of an image without error.
        class_names: of the part.
        place: where the row is, for messages.

    Raises:
        FastSamError: the row is damaged.

    Example:
        >>> row = row_of_segments(SourceImage("a", "a.jpg"), "00", Segments.empty((4, 5)), None)
        >>> segments_of_row(row, ("object",), "part").image_hw
        (4, 5)
    """
    try:
        image_hw = int(row["height"]), int(row["width"])
        columns = LoadedColumns(
            boxes_xyxy=np.array(row["boxes_xyxy"], np.float32).reshape(-1, 4),
            scores=np.array(row["scores"], np.float32),
            classes=np.array(row["classes"], np.int64),
            masks=Masks.from_rle([{"size": list(image_hw), "counts": counts} for counts in row["rle"]], image_hw),
            prompts=np.array([NO_PROMPT if number is None else number for number in row["prompt"]], np.int64),
            fits=_from_none(row["fits"]),
            probabilities=_from_none(row["probabilities"]),
            class_names=class_names,
        )
        return Segments(**{name: getattr(columns, name) for name in LoadedColumns.__dataclass_fields__})
    except (KeyError, TypeError, ValueError) as error:
        raise FastSamError(f"{place}: image {row.get('id')!r} is damaged ({error}); do its chunk again") from error


def _from_none(values: Sequence[float | None]) -> NDArray[np.float32]:
    return np.array([np.nan if value is None else value for value in values], np.float32)
