"""What a request asks for: the values of its JSON or of its form, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..documents import MAX_QUESTION_BYTES, is_text, parse, quoted
from ..errors import ImageError, ParameterError, PromptError
from ..formats import available
from ..prompts.fields import known_keys
from ..settings import Thresholds
from ..stages.reading.base64_text import decode_text
from ..wire.question import Limits, Question
from .decoding import NAME

MASKS = ("rle", "polygons", "bits", "labelmap", "none")
"""How masks are written in an answer of the format "json"."""

QUESTION_KEYS = ("prompts", "conf", "iou", "max_det")
ANSWER_KEYS = ("masks", "format")
SEGMENT_KEYS = (*QUESTION_KEYS, *ANSWER_KEYS, "keep", "image", "url")
SELECT_KEYS = ("id", "prompts", *ANSWER_KEYS)
_WHERE = "the request"
_LONGEST_ID = 64


def file_formats() -> tuple[str, ...]:
    """Formats of an answer: "json" first, then those of other programs.

    Example:
        >>> file_formats()
        ('json', 'coco', 'csv', 'labelmap', 'labelme', 'npz', 'yolo')
    """
    names = [form.name for form in available()]
    return "json", *(name for name in names if name != "json")


@dataclass(frozen=True)
class AnswerForm:
    """How an answer is written.

    Attributes:
        format: "json", or a format of files.
        masks: one of MASKS, for "json".

    Example:
        >>> AnswerForm.of({"masks": "polygons"}).masks
        'polygons'
    """

    format: str = "json"
    masks: str = "rle"

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AnswerForm:
        """The form that the keys `masks` and `format` ask for.

        Raises:
            ParameterError: a value is unknown, or they contradict each other.
        """
        form = cls(values.get("format", "json"), values.get("masks", "rle"))
        for name, value, known in (("format", form.format, file_formats()), ("masks", form.masks, MASKS)):
            if value not in known:
                raise ParameterError(f"{name} is {quoted(value)}, expected one of {', '.join(known)}")
        if form.format != "json" and "masks" in values:
            raise ParameterError(f"masks is given with the format {form.format!r}; expected it with json; leave it out")
        return form


@dataclass(frozen=True)
class SegmentRequest:
    """An image to segment, and what to answer.

    Attributes:
        content: the image file; None if it is at a URL.
        url: where the image is; None if it was sent.
        question: prompts and thresholds.
        form: how the answer is written.
        keep: keep the segments for further prompts.

    Example:
        >>> request = SegmentRequest.from_values({"image": "R0lGODlh", "conf": 0.3}, Limits())
        >>> request.content, request.question.thresholds.conf, request.form.masks
        (b'GIF89a', 0.3, 'rle')
    """

    content: bytes | None = field(repr=False)
    url: str | None
    question: Question
    form: AnswerForm
    keep: bool = True

    @classmethod
    def from_values(cls, values: Any, limits: Limits, defaults: Thresholds | None = None) -> SegmentRequest:
        """Check the values of a request.

        Args:
            values: any parsed JSON; the image as text (base64 or a `data:` URL), or as bytes from a form.
            limits: of the server.
            defaults: thresholds of a request without its own; None: those of this project.

        Raises:
            ImageError: there is no image, or two, or it cannot be read as text.
            ParameterError, PromptError: another value is wrong.
        """
        known = known_keys(values, SEGMENT_KEYS, _WHERE)
        keep = known.get("keep", True)
        if not isinstance(keep, bool):
            raise ParameterError(f"keep is {quoted(keep)}, expected true or false")
        if ("image" in known) == ("url" in known):
            given = "both" if "image" in known else "neither"
            raise ImageError(f"{given} of image and url given; expected one of them")
        url = known.get("url")
        if url is not None and not is_text(url):
            raise ParameterError(f"url is {quoted(url)}, expected a text")
        content = _content(known["image"]) if "image" in known else None
        return cls(content, url, _question(known, limits, defaults), AnswerForm.of(known), keep)


@dataclass(frozen=True)
class SelectRequest:
    """Prompts on an image that was segmented before.

    Attributes:
        id: of the image.
        question: the prompts.
        form: how the answer is written.

    Example:
        >>> SelectRequest.from_values({"id": "abc", "prompts": [{"points": [[5, 3]]}]}, Limits()).id
        'abc'
    """

    id: str
    question: Question
    form: AnswerForm

    @classmethod
    def from_values(cls, values: Any, limits: Limits) -> SelectRequest:
        """Check the values of a request.

        Raises:
            ParameterError, PromptError: a value is wrong.
        """
        known = known_keys(values, SELECT_KEYS, _WHERE)
        name = known.get("id")
        if not isinstance(name, str) or not is_text(name) or not 0 < len(name) <= _LONGEST_ID:
            raise ParameterError(f"id is {quoted(name)}, expected that of an answer of /v1/segment")
        return cls(name, _question(known, limits, None), AnswerForm.of(known))


def values_from_json(text: bytes, most_bytes: int) -> Any:
    """The values of a request in JSON.

    Raises:
        PromptError: it is not JSON.

    Example:
        >>> values_from_json(b'{"image": "R0lGODlh"}', 100)
        {'image': 'R0lGODlh'}
    """
    try:
        return parse(text, most_bytes)
    except ValueError as error:
        raise PromptError(
            f"{_WHERE}: {bytes(text[:40])!r} is not JSON ({error}); expected an object such as "
            '{"image": "<base64>", "prompts": [{"points": [[320, 180]]}]}'
        ) from error


def values_from_form(fields: Mapping[str, str | bytes]) -> dict[str, Any]:
    """The values of a request in a form, whose fields are texts: numbers, prompts and `keep` are JSON.

    Raises:
        ParameterError, PromptError: a text is not the JSON that it should be.

    Example:
        >>> values_from_form({"image": b"GIF89a", "conf": "0.3", "prompts": '[{"boxes": [[1, 2, 3, 4]]}]'})
        {'image': b'GIF89a', 'conf': 0.3, 'prompts': [{'boxes': [[1, 2, 3, 4]]}]}
    """
    values: dict[str, Any] = {}
    for name, field_value in fields.items():
        value = field_value
        if name not in ("image", "url", *ANSWER_KEYS):
            try:
                value = parse(field_value, MAX_QUESTION_BYTES)
            except ValueError as error:
                kind = PromptError if name == "prompts" else ParameterError
                raise kind(f"field {name:.40}: {quoted(field_value)} is not JSON ({error}); expected a number, a list "
                           "or true") from error  # fmt: skip
        elif name != "image" and isinstance(value, bytes):
            raise ParameterError(f"field {name}: is a file, expected a text")
        values[name] = value
    return values


def _content(image: Any) -> bytes:
    if isinstance(image, bytes):
        return image
    if not isinstance(image, str) or not image:
        raise ImageError(f"{NAME} is {quoted(image)}, expected an image file in base64; encode the file")
    return decode_text(image.encode("ascii", "replace"), NAME)


def _question(known: Mapping[str, Any], limits: Limits, defaults: Thresholds | None) -> Question:
    asked = {name: known[name] for name in QUESTION_KEYS if name in known}
    return Question.from_document(asked, limits, _WHERE, defaults)
