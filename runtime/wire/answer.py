"""Segments ↔ output tensors of the Triton models. Client and server both use this; `tensors.py` has the tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ImageError, ModelError, ParameterError, PromptError, ServerError
from ..formats import LoadedColumns
from ..masks.bits import pack_bytes, unpack_bytes
from ..masks.store import Masks
from ..segments import NO_PROMPT, Segments
from .budget import AnswerBudget
from .tensors import ANSWER

OUTPUTS = tuple(tensor.name for tensor in ANSWER)
"""Names of the outputs."""

_DTYPES = {tensor.name: tensor.dtype for tensor in ANSWER if tensor.shape[1] is None and tensor.dtype != "bytes"}
_NO_FIT = -1.0

_LENGTH_BYTES = 4  # in front of each element of BYTES
_IMAGE_BYTES = 3 * np.dtype(np.int32).itemsize  # COUNT and IMAGE_SIZE
_ROW_BYTES = _LENGTH_BYTES + sum(
    np.dtype(tensor.dtype).itemsize * math.prod(side or 1 for side in tensor.shape[2:])
    for tensor in ANSWER
    if tensor.name in _DTYPES
)
"""A row's part of each tensor, without its mask."""

_RLE_BLOCK = 64

Tensors = dict[str, NDArray[Any]]


def error_text(error: FastSamError) -> str:
    """The message of an error, after its kind.

    Example:
        >>> error_text(PromptError("box 0 is thin"))
        'PromptError: box 0 is thin'
    """
    return f"{type(error).__name__}: {error}"


def error_from_text(text: str) -> FastSamError | None:
    """The error whose `error_text` a server's message contains, or None if it contains none.

    Example:
        >>> error_from_text("in ensemble 'fastsam', PromptError: box 0 is thin")
        PromptError('box 0 is thin')
    """
    match = re.search(rf"\b({'|'.join(_ERRORS)}): (.*)", text, re.DOTALL)
    return _ERRORS[match[1]](match[2]) if match else None


_ERRORS = {kind.__name__: kind for kind in (ImageError, ModelError, ParameterError, PromptError, ServerError)}


def answer_tensors(answers: Sequence[Segments], masks: Sequence[str], limit_bytes: int | None = None) -> Tensors:
    """The output tensors for the images of one request.

    Args:
        answers: the segments of each image, at least one image.
        masks: the mask format of each answer, one of MASK_FORMATS.
        limit_bytes: of all tensors together, checked before they are made; None: no limit.

    Raises:
        PromptError: the answer is larger than the limit.

    Example:
        >>> tensors = answer_tensors([Segments.empty((480, 640))], ["rle"])
        >>> tensors["COUNT"].tolist(), tensors["IMAGE_SIZE"].tolist(), tensors["BOXES"].shape
        ([[0]], [[480, 640]], (1, 0, 4))
    """
    budget = AnswerBudget(limit_bytes)
    budget.spend(len(answers) * (_IMAGE_BYTES + max(map(len, answers)) * _ROW_BYTES))
    for answer, kind in zip(answers, masks, strict=True):
        if kind == "bits":
            budget.spend(int(((answer.masks.sizes_wh.prod(1) + 7) // 8).sum()))
    tensors: Tensors = {
        "COUNT": np.array([[len(answer)] for answer in answers], np.int32),
        "IMAGE_SIZE": np.array([answer.image_hw for answer in answers], np.int32),
    }
    columns = [_columns(answer, kind, budget) for answer, kind in zip(answers, masks, strict=True)]
    most = max(map(len, answers))
    for name in (*_DTYPES, "MASKS"):
        first = columns[0][name]
        filling = b"" if name == "MASKS" else 0
        tensors[name] = np.full((len(answers), most, *first.shape[1:]), filling, first.dtype)
        for row, column in zip(tensors[name], columns, strict=True):
            row[: len(column[name])] = column[name]
    return tensors


def _columns(answer: Segments, masks: str, budget: AnswerBudget) -> Tensors:
    sizes = answer.masks.sizes_wh.astype(np.int32)
    columns: Tensors = {
        "BOXES": answer.boxes_xyxy,
        "SCORES": answer.scores,
        "CLASSES": answer.classes,
        "AREAS": answer.areas,
        "PROMPTS": answer.prompts,
        "FITS": np.where(answer.prompts == NO_PROMPT, _NO_FIT, answer.fits),
        "PROBABILITIES": np.where(np.isnan(answer.probabilities), _NO_FIT, answer.probabilities),
        "CROPS": np.concatenate([answer.masks.corners_xy.astype(np.int32), sizes], 1),
    }
    texts = np.empty(len(answer), np.object_)
    if masks == "rle":
        texts[:] = list(_rle_texts(answer.masks, budget))
    elif masks == "bits":
        texts[:] = [pack_bytes(crop).tobytes() for crop in answer.masks.crops]
    else:
        texts[:] = b""
    return {**{name: columns[name].astype(dtype) for name, dtype in _DTYPES.items()}, "MASKS": texts}


def _rle_texts(masks: Masks, budget: AnswerBudget) -> Iterator[bytes]:
    """The RLE of each mask; its length is known once it is made, so it is made for a few masks at a time."""
    for start in range(0, len(masks), _RLE_BLOCK):
        texts = [rle["counts"].encode("ascii") for rle in masks[start : start + _RLE_BLOCK].rle()]
        budget.spend(sum(map(len, texts)))
        yield from texts


def answers_from_tensors(
    tensors: Mapping[str, NDArray[Any]], class_names: tuple[str, ...], timing_ms: Mapping[str, float] | None = None
) -> list[Segments]:
    """The answers in the output tensors of a server, with masks in the format "bits".

    Args:
        tensors: the outputs by name, see `OUTPUTS`.
        class_names: name of each class number.
        timing_ms: the timing of each answer.

    Raises:
        ModelError: an output is missing, or the outputs contradict one another.

    Example:
        >>> tensors = answer_tensors([Segments.empty((480, 640))], ["bits"])
        >>> (segments,) = answers_from_tensors(tensors, ("object",))
        >>> len(segments), segments.image_hw
        (0, (480, 640))
    """
    missing = [name for name in OUTPUTS if name not in tensors]
    if missing:
        raise ModelError(
            f"the server's answer has no {missing[0]}; expected {', '.join(OUTPUTS)}; is it a FastSAM model?"
        )
    try:
        rows = [{name: tensors[name][i] for name in OUTPUTS} for i in range(len(tensors["COUNT"]))]
        return [_answer(row, class_names, {} if timing_ms is None else timing_ms) for row in rows]
    except (ValueError, IndexError, TypeError, OverflowError, FastSamError) as error:
        raise ModelError(
            f"the server's answer does not fit together: {error}; does the server run the same version?"
        ) from error


def _answer(row: Mapping[str, NDArray[Any]], class_names: tuple[str, ...], timing_ms: Mapping[str, float]) -> Segments:
    count = int(row["COUNT"][0])
    if not 0 <= count <= len(row["CROPS"]):
        raise ValueError(f"COUNT is {count}, there are {len(row['CROPS'])} rows")
    height, width = (int(side) for side in row["IMAGE_SIZE"])
    if row["CROPS"].dtype.kind not in "iu":
        raise ValueError(f"CROPS are {row['CROPS'].dtype}, expected int32")
    places = row["CROPS"][:count].astype(np.int64)
    crops = (_bitmap(bits, w, h) for bits, (_, _, w, h) in zip(row["MASKS"], places.tolist(), strict=False))
    columns = LoadedColumns(
        boxes_xyxy=row["BOXES"][:count],
        scores=row["SCORES"][:count],
        classes=row["CLASSES"][:count],
        masks=Masks.from_crops((height, width), crops, places[:, :2].copy()),
        prompts=row["PROMPTS"][:count],
        fits=np.where(row["PROMPTS"] == NO_PROMPT, np.nan, row["FITS"])[:count],
        probabilities=np.where(row["PROBABILITIES"] < 0, np.nan, row["PROBABILITIES"])[:count],
        class_names=class_names,
    )
    return Segments(
        columns.boxes_xyxy,
        columns.scores,
        columns.classes,
        columns.masks,
        columns.prompts,
        columns.fits,
        class_names,
        timing_ms,
        columns.probabilities,
    )


def _bitmap(bits: bytes, width: int, height: int) -> NDArray[np.bool_]:
    if len(bits) != (width * height + 7) // 8:
        raise ValueError(f"{len(bits)} bytes for a crop of {width}×{height}")
    return unpack_bytes(np.frombuffer(bits, np.uint8), (height, width))
