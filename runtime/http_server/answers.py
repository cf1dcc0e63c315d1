"""Segments as the body of an answer."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..documents import dump
from ..errors import PromptError
from ..formats import Format, available, labelmap
from ..formats.json import rows
from ..masks.bits import pack_bytes
from ..segments import Segments
from ..wire.budget import AnswerBudget
from .requests import AnswerForm

_MEDIA_TYPES = {".json": "application/json", ".png": "image/png", ".csv": "text/csv; charset=utf-8",
                ".txt": "text/plain; charset=utf-8"}  # fmt: skip
_BINARY = "application/octet-stream"
_ROW_BYTES = 160
"""Of a segment without its mask, in JSON."""

_BLOCK = 64
_MOST_OUTLINED = 1000
"""Segments of an answer with outlines, or in a format of files: each takes up to 20 ms."""

_BYTES_OF_A_CORNER = 12


@dataclass(frozen=True)
class Answer:
    """The body of an answer.

    Attributes:
        body: its bytes.
        media_type: what they are.
        id: under which the image is kept; None if it is not.
        status: of HTTP; another process may have answered with a problem.

    Example:
        >>> answer_of(Segments.empty((4, 6)), AnswerForm("labelmap"), "abc", None).media_type
        'image/png'
    """

    body: bytes
    media_type: str
    id: str | None = None
    status: int = 200


def answer_of(segments: Segments, form: AnswerForm, name: str | None, limit_bytes: int | None) -> Answer:
    """Write segments as a request wants them.

    Args:
        segments: the answer.
        form: the format, and how masks are written.
        name: id under which the image is kept; None if it is not.
        limit_bytes: of the body, which is checked while it is made; None: no limit.

    Raises:
        PromptError: the answer is larger than the limit.
        ParameterError, FastSamError: the format cannot hold these segments.

    Example:
        >>> answer_of(Segments.empty((4, 6)), AnswerForm(), None, None).body
        b'{"id": null, "image": {"height": 4, "width": 6}, "class_names": ["object"], "segments": [], "timing_ms": {}}'
    """
    budget = AnswerBudget(limit_bytes)
    budget.spend(len(segments) * _ROW_BYTES)
    if len(segments) > _MOST_OUTLINED and (form.format != "json" or form.masks == "polygons"):
        raise PromptError(
            f"the answer has {len(segments)} segments, expected at most {_MOST_OUTLINED} as polygons or in a format "
            'other than "json"; ask for fewer, or for masks as "rle"'
        )
    if form.format == "json":
        text = dump(_document(segments, form.masks, name, budget))
        AnswerBudget(limit_bytes).spend(len(text))
        return Answer(text.encode(), _MEDIA_TYPES[".json"], name)
    encoder = _file_format(form.format)
    if form.format != "labelmap":  # most of these hold every mask; nobody knows how long before it is made
        budget.spend(_bits_bytes(segments))
    content = encoder.encode(segments)
    AnswerBudget(limit_bytes).spend(len(content))
    return Answer(content, _MEDIA_TYPES.get(encoder.suffix, _BINARY), name)


def media_type_of(format_name: str) -> str:
    """The media type of an answer in a format.

    Example:
        >>> media_type_of("labelmap"), media_type_of("npz")
        ('image/png', 'application/octet-stream')
    """
    return _MEDIA_TYPES.get(_file_format(format_name).suffix, _BINARY)


def _file_format(name: str) -> Format:
    (form,) = (form for form in available() if form.name == name)
    return form


def _document(segments: Segments, masks: str, name: str | None, budget: AnswerBudget) -> dict[str, Any]:
    height, width = segments.image_hw
    extra: dict[str, Any] = {}
    listed = rows(segments, _segmentations(segments, masks, budget))
    if masks in ("labelmap", "none"):
        for row in listed:
            del row["segmentation"]
    if masks == "labelmap":
        extra["label_map"] = base64.b64encode(labelmap.encode(segments)).decode()
        for row, label in zip(listed, _labels(segments), strict=True):
            row["label"] = label
    return {
        "id": name,
        "image": {"height": height, "width": width},
        "class_names": list(segments.class_names),
        "segments": [{"class": int(number), **row} for number, row in zip(segments.classes, listed, strict=True)],
        "timing_ms": {stage: round(float(ms), 3) for stage, ms in segments.timing_ms.items()},
        **extra,
    }


def _labels(segments: Segments) -> list[int]:
    """The number of each segment in a label map, from 1."""
    ranks = np.empty(len(segments), np.int64)
    ranks[np.argsort(-segments.scores, kind="stable")] = np.arange(1, len(segments) + 1)
    return [int(rank) for rank in ranks]


def _segmentations(segments: Segments, masks: str, budget: AnswerBudget) -> Iterator[Any]:
    """The masks in plain values. They are made for a few at a time, since their length is known only then."""
    if masks in ("labelmap", "none"):
        yield from [None] * len(segments)
        return
    if masks == "bits":
        budget.spend(4 * _bits_bytes(segments) // 3)
        yield from _bits(segments)
        return
    for start in range(0, len(segments), _BLOCK):
        block = segments.masks[start : start + _BLOCK]
        if masks == "rle":
            texts = block.rle()
            budget.spend(sum(len(text["counts"]) for text in texts))
            yield from texts
        else:
            for parts in block.polygons():
                rings = [[ring.tolist() for ring in part.rings] for part in parts]
                budget.spend(sum(len(ring) for part in rings for ring in part) * _BYTES_OF_A_CORNER)
                yield rings


def _bits_bytes(segments: Segments) -> int:
    return int(((segments.masks.sizes_wh.prod(1) + 7) // 8).sum())


def _bits(segments: Segments) -> Iterator[dict[str, Any]]:
    """The pixels of each crop, row by row, 8 to a byte, highest bit first, in base64."""
    masks = segments.masks
    for crop, (x, y) in zip(masks.crops, masks.corners_xy.tolist(), strict=True):
        height, width = crop.shape
        yield {"crop": [x, y, width, height], "bits": base64.b64encode(pack_bytes(crop).tobytes()).decode()}
