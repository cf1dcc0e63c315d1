"""What OpenAPI says of requests and answers."""

from __future__ import annotations

from typing import Any

from ...settings import Thresholds
from ...wire.question import Limits
from ..answers import media_type_of
from ..requests import MASKS, file_formats
from .problems import MEDIA_TYPE

_DEFAULTS = Thresholds()
_TINY = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR4nGNsYIAAJgaKGAAmCACQXTClHgAAAABJRU5ErkJggg=="
"""A gray PNG of 8 x 8 pixels."""

_NUMBER: dict[str, Any] = {"type": "number"}
_PAIR = {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}
_BOX = {"type": "array", "items": _NUMBER, "minItems": 4, "maxItems": 4}
_NUMBER_OR_NULL = {"anyOf": [{"type": "number"}, {"type": "null"}]}
_TEXT_OR_NULL = {"anyOf": [{"type": "string"}, {"type": "null"}]}

_PROMPTS: dict[str, Any] = {
    "type": "array",
    "description": "Prompts, each an object with one of the keys points, boxes, text, everything. Coordinates are "
    "pixels of the image as it is displayed. The answers are joined, in the order of the prompts.",
    "items": {
        "anyOf": [
            {
                "type": "object",
                "required": ["points"],
                "properties": {
                    "points": {"type": "array", "items": _PAIR, "minItems": 1},
                    "labels": {"type": "array", "items": {"enum": [0, 1]}},
                    "mode": {"enum": ["merge", "each", "all"]},
                },
                "additionalProperties": False,
            },
            {
                "type": "object",
                "required": ["boxes"],
                "properties": {"boxes": {"type": "array", "items": _BOX, "minItems": 1}},
                "additionalProperties": False,
            },
            {
                "type": "object",
                "required": ["text"],
                "properties": {"text": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}},
            },
            {
                "type": "object",
                "required": ["everything"],
                "properties": {"everything": {"const": True}},
                "additionalProperties": False,
            },
        ]
    },
    "example": [{"points": [[4, 4]]}],
}


def _answer_properties() -> dict[str, Any]:
    return {
        "masks": {
            "enum": list(MASKS),
            "default": "rle",
            "description": "How masks are written in JSON. rle: COCO's compressed run lengths; polygons: rings, the "
            "first of each part outside, the others holes; bits: a crop, 8 pixels to a byte, base64; labelmap: a PNG "
            "of 16 bits in base64, with the number of each segment; none: only boxes.",
        },
        "format": {
            "enum": list(file_formats()),
            "default": "json",
            "description": "json, or a file: labelmap is the PNG itself. masks goes with json alone.",
        },
    }


def _segment_properties(limits: Limits) -> dict[str, Any]:
    return {
        "prompts": _PROMPTS,
        "conf": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "default": _DEFAULTS.conf},
        "iou": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": _DEFAULTS.iou},
        "max_det": {"type": "integer", "minimum": 1, "maximum": limits.max_det},
        **_answer_properties(),
        "keep": {"type": "boolean", "default": True, "description": "Keep the segments for /v1/select."},
    }


def segment_body(limits: Limits) -> dict[str, Any]:
    """The body of POST /v1/segment.

    Example:
        >>> sorted(segment_body(Limits())["content"])
        ['application/json', 'multipart/form-data']
    """
    shared = _segment_properties(limits)
    url = {"type": "string", "description": "Instead of image; only from hosts that the operator has named."}
    in_json = {
        "image": {"type": "string", "description": "An image file in base64, or a data: URL.", "example": _TINY},
        "url": url,
    }
    in_form = {"image": {"type": "string", "format": "binary"}, "url": url}
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": _object({**in_json, **shared}),
                "example": {"image": _TINY, "prompts": [{"points": [[4, 4]]}], "conf": 0.3},
            },
            "multipart/form-data": {
                "schema": _object({**in_form, **shared}),
                "encoding": {"prompts": {"contentType": "application/json"}},
            },
        },
    }


def select_body() -> dict[str, Any]:
    """The body of POST /v1/select.

    Example:
        >>> select_body()["content"]["application/json"]["schema"]["required"]
        ['id', 'prompts']
    """
    name = {"type": "string", "minLength": 1, "maxLength": 64, "description": "Of an answer of /v1/segment."}
    schema = _object({"id": name, "prompts": _PROMPTS, **_answer_properties()})
    schema["required"] = ["id", "prompts"]
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def answers() -> dict[int | str, dict[str, Any]]:
    """Answers with segments, and all that can go wrong instead.

    Example:
        >>> sorted(answers())
        [200, 400, 404, 408, 413, 415, 500, 503]
    """
    row = {
        "class": {"type": "integer"},
        "bbox": {**_BOX, "description": "x, y, width, height in pixels of the image."},
        "score": _NUMBER,
        "area": {"type": "integer", "description": "Pixels of the mask."},
        "segmentation": {"description": "The mask, as `masks` says."},
        "label": {"type": "integer", "description": "Number in the label map."},
        "prompt": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "fit": _NUMBER_OR_NULL,
        "probability": _NUMBER_OR_NULL,
    }
    answer = _object(
        {
            "id": {**_TEXT_OR_NULL, "description": "For /v1/select; null if the image is not kept."},
            "image": _object({"height": {"type": "integer"}, "width": {"type": "integer"}}),
            "class_names": {"type": "array", "items": {"type": "string"}},
            "segments": {"type": "array", "items": _object(row)},
            "timing_ms": {"type": "object", "additionalProperties": _NUMBER},
            "label_map": {"type": "string", "contentEncoding": "base64"},
        }
    )
    answer["required"] = ["id", "image", "class_names", "segments", "timing_ms"]
    content: dict[str, Any] = {"application/json": {"schema": answer}}
    for name in file_formats():
        content.setdefault(media_type_of(name), {"schema": {"type": "string", "format": "binary"}})
    content["application/json"] = {"schema": {"type": "object"}} | {"schema": {"anyOf": [answer, {"type": "object"}]}}
    good = {
        "description": "The segments. The header X-Image-Id has the id too.",
        "content": content,
        "headers": {"X-Image-Id": {"schema": {"type": "string"}, "required": False}},
    }
    return {200: good, **problems()}


def problems() -> dict[int | str, dict[str, Any]]:
    """Answers to requests that fail.

    Example:
        >>> problems()[413]["description"]
        'The body is too large.'
    """
    schema = _object(
        {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "kind": {"type": "string", "description": "Class of the error."},
            "detail": {"type": "string", "description": "What is wrong, found and expected, and what to do."},
        }
    )
    schema["required"] = ["type", "title", "status", "kind", "detail"]
    texts = {
        400: "The request is wrong.",
        404: "The image is not kept, or not any more.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        415: "The body is neither JSON nor a form.",
        500: "The model failed, or there is a bug.",
        503: "Too busy, too late, or shutting down. Retry-After says when to try again.",
    }
    return {
        status: {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}} for status, text in texts.items()
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}
