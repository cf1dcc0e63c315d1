"""Requests that a server gets, and answers that a client gets."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime import load_image
from fastsam_deploy.runtime.errors import FastSamError
from fastsam_deploy.runtime.http_server.requests import (
    SegmentRequest,
    SelectRequest,
    values_from_form,
    values_from_json,
)
from fastsam_deploy.runtime.http_server.urls import ImageFetcher, Origin
from fastsam_deploy.runtime.serving import Parameters, Postprocess, Preprocess
from fastsam_deploy.runtime.wire.answer import answer_tensors, answers_from_tensors, error_from_text
from fastsam_deploy.runtime.wire.question import Limits
from tests.hostile.boundaries import images, texts
from tests.hostile.boundaries.segments import sample
from tests.hostile.boundary import Boundary

_SPLIT = b"\n--\n"
Tensors = dict[str, NDArray[Any]]


def pack(tensors: Tensors) -> bytes:
    """Tensors as one string: a line of JSON with names, types and shapes, then their bytes."""
    header, parts = [], []
    for name, values in tensors.items():
        content = b"\0".join(values.ravel().tolist()) if values.dtype == object else values.tobytes()
        header.append([name, str(values.dtype), list(values.shape), len(content)])
        parts.append(content)
    return json.dumps(header).encode() + b"\n" + b"".join(parts)


def unpack(content: bytes) -> Tensors | None:
    """What `pack` made, damaged; None where it is no longer that.

    Types and the number of dimensions are those of a header that a client of the protocol accepts.
    """
    line, _, rest = content.partition(b"\n")
    tensors: Tensors = {}
    try:
        for name, kind, shape, size in json.loads(line):
            part, rest = rest[:size], rest[size:]
            if kind == "object":
                cells = part.split(b"\0")
                values = np.array([*cells, None], object)[:-1]
            else:
                values = np.frombuffer(part[: len(part) // np.dtype(kind).itemsize * np.dtype(kind).itemsize], kind)
            tensors[str(name)] = values.reshape(shape)
    except (ValueError, TypeError, SyntaxError, RecursionError, OverflowError, MemoryError):
        return None
    return tensors


def _answer_seeds() -> list[bytes]:
    return [pack(answer_tensors([sample(count)], ["bits"])) for count in (0, 1, 4)]


def _read_answer(content: bytes) -> None:
    tensors = unpack(content)
    if tensors is not None:
        for segments in answers_from_tensors(tensors, ("object",)):
            json.dumps(segments.to_json(), allow_nan=False)


def _request_seeds() -> list[bytes]:
    questions, files = texts._question_seeds(), [images._jpeg()[0], images._png()[0], images._webp()[0]]
    return [question + _SPLIT + file for question, file in zip(questions, files, strict=True)]


_SETTINGS = {"imgsz": "64", "limit_pixels": str(images.MOST_PIXELS), "decode_seconds": "off"}
_PARAMETERS = {"parameters": {name: {"string_value": text} for name, text in _SETTINGS.items()}}


def _raise(result: object) -> None:
    """A stage of the server gives errors as results; what is no error of ours is a bug, for which it answers 500."""
    if isinstance(result, Exception):
        raise result


def _read_request(content: bytes) -> None:
    question, _, image = content.partition(_SPLIT)
    request = {"PROMPT": np.array([[question]], object), "IMAGE": np.array([[image]], object)}
    (result,) = Preprocess(Parameters(_PARAMETERS))([request])
    _raise(result)


def _pixel_seeds() -> list[bytes]:
    shapes = ((1, 40, 60, 3), (1, 1, 300, 3), (1, 500, 1, 3))
    pixels = [np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) for shape in shapes]
    return [pack({"PIXELS": values, "PROMPT": np.array([[b"{}"]], object)}) for values in pixels]


def _read_pixels(content: bytes) -> None:
    request = unpack(content)
    if request is None or not {"PIXELS", "PROMPT"} <= request.keys():
        return
    pixels, prompt = request["PIXELS"], request["PROMPT"]
    # Triton checks the types, the number of dimensions and the last side against the model's configuration.
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or prompt.dtype != object:
        return
    if prompt.shape != (len(pixels), 1):
        return
    (result,) = Preprocess(Parameters(_PARAMETERS))([{"PIXELS": pixels, "PROMPT": prompt}])
    _raise(result)


def _network_seeds() -> list[bytes]:
    chance = np.random.default_rng(1)
    detections = chance.normal(size=(1, 37, 84)).astype(np.float32)
    detections[:, :4] = chance.uniform(5, 60, (1, 4, 84))
    detections[:, 4] = chance.random((1, 84))
    tensors = {"output0": detections, "output1": chance.normal(size=(1, 32, 16, 16)).astype(np.float32)}
    size = np.array([[40, 60]], np.int32)
    return [pack({**tensors, "IMAGE_SIZE": size, "PROMPT": np.array([[b"{}"]], object)})]


def _read_network(content: bytes) -> None:
    """What a network of a stranger gives: numbers of any value, in the shapes that the configuration has."""
    request = unpack(content)
    names = {"output0": ((1, 37, 84), np.float32), "output1": ((1, 32, 16, 16), np.float32)}
    names |= {"IMAGE_SIZE": ((1, 2), np.int32), "PROMPT": ((1, 1), object)}
    if request is None or any(
        name not in request or (request[name].shape, request[name].dtype) != (shape, np.dtype(kind))
        for name, (shape, kind) in names.items()
    ):
        return
    height, width = request["IMAGE_SIZE"][0]
    if not (0 < height <= 2000 and 0 < width <= 2000):
        return  # it comes from our own step before
    (result,) = Postprocess(Parameters(_PARAMETERS), images.MOST_PIXELS)([request])  # type: ignore[arg-type]
    _raise(result)


def _http_seeds() -> list[bytes]:
    image = base64.b64encode(images._png()[0]).decode()
    prompts = [{"points": [[3, 4], [5, 6]], "labels": [1, 0], "mode": "each"}, {"boxes": [[1, 2, 30, 40]]}]
    whole = {"image": image, "prompts": prompts, "conf": 0.3, "iou": 0.8, "max_det": 50, "masks": "bits"}
    return [json.dumps(values).encode() for values in (
        whole, {"url": "https://images.example.org/cat.jpg?a=1", "format": "npz", "keep": False},
        {"id": "1-k8sXQm0dRkK1yEw3mZ0fJA", "prompts": [{"everything": True}], "masks": "polygons"},
    )]  # fmt: skip


def _read_http(content: bytes) -> None:
    """What `fastsam serve` does with a body before the network runs, as JSON and as the fields of a form."""
    values = values_from_json(content, 1 << 20)
    limits = Limits(pixels=images.MOST_PIXELS)
    if isinstance(values, dict) and "id" in values:
        SelectRequest.from_values(values, limits)
        return
    request = SegmentRequest.from_values(values, limits)
    if request.url is not None:
        _, path = ImageFetcher([Origin("https", "images.example.org", 443)], most_bytes=9).checked(request.url)
        assert path.startswith("/") and path.isprintable() and " " not in path
        return
    pixels = load_image(limits.check_bytes(request.content or b""), max_pixels=limits.pixels, name="image")
    request.question.check_inside(pixels.shape[:2])


def _form_seeds() -> list[bytes]:
    texts = {"prompts": '[{"points": [[3, 4]]}]', "conf": "0.25", "max_det": "7", "keep": "false", "masks": "none"}
    return [b"\0".join(f"{name}={text}".encode() for name, text in texts.items())]


def _read_form(content: bytes) -> None:
    fields = [part.decode("utf-8", "replace").partition("=") for part in content.split(b"\0")]
    values = values_from_form({name: text for name, _, text in fields})
    SegmentRequest.from_values({**values, "image": b"GIF89a"}, Limits())


def _error_seeds() -> list[bytes]:
    return [b"ImageError: PIXELS has 3 pixels", b"[500] bug in the server: KeyError('x')", b"ModelError: \xc3\xa9"]


def _read_error(content: bytes) -> None:
    error = error_from_text(content.decode("utf-8", "replace"))
    assert error is None or isinstance(error, FastSamError)


BOUNDARIES = [
    Boundary("answer", _answer_seeds, _read_answer, share=2.0),
    Boundary("request", _request_seeds, _read_request),
    Boundary("request-pixels", _pixel_seeds, _read_pixels),
    Boundary("http-json", _http_seeds, _read_http, text=True, share=2.0),
    Boundary("http-form", _form_seeds, _read_form, share=0.5),
    Boundary("network-outputs", _network_seeds, _read_network),
    Boundary("server-error", _error_seeds, _read_error, share=0.3),
]
