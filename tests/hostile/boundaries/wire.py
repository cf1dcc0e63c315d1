"""Requests that a server gets, and answers that a client gets."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime.errors import FastSamError
from fastsam_deploy.runtime.serving import Parameters, Postprocess, Preprocess
from fastsam_deploy.runtime.wire.answer import answer_tensors, answers_from_tensors, error_from_text
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


def _error_seeds() -> list[bytes]:
    return [b"ImageError: PIXELS has 3 pixels", b"[500] bug in the server: KeyError('x')", b"ModelError: \xc3\xa9"]


def _read_error(content: bytes) -> None:
    error = error_from_text(content.decode("utf-8", "replace"))
    assert error is None or isinstance(error, FastSamError)


BOUNDARIES = [
    Boundary("answer", _answer_seeds, _read_answer, share=2.0),
    Boundary("request", _request_seeds, _read_request),
    Boundary("request-pixels", _pixel_seeds, _read_pixels),
    Boundary("network-outputs", _network_seeds, _read_network),
    Boundary("server-error", _error_seeds, _read_error, share=0.3),
]
