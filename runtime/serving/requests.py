"""Requests of Triton's Python backend: the images and questions in them, and the responses. One error, one request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ImageError, ParameterError, PromptError, ServerError
from ..stages.image import load_image
from ..wire.answer import Tensors, error_text
from ..wire.question import Limits, Question
from ..wire.tensors import IMAGE, PIXELS, PROMPT

Decoder = Callable[..., NDArray[np.uint8]]
"""`load_image`, or the same in a process of its own."""

Result = Tensors | Exception
"""Output tensors by name, or the error of this request alone."""

_LONGEST_MESSAGE = 1000  # characters; a message may quote what the client sent
_log = logging.getLogger(__name__)
_Value = TypeVar("_Value")


def inputs_of(request: Any) -> Tensors:
    """The input tensors of a request of the Python backend, by name.

    Example:
        >>> from types import SimpleNamespace
        >>> tensor = SimpleNamespace(name=lambda: "PROMPT", as_numpy=lambda: np.array([[b"{}"]], np.object_))
        >>> inputs_of(SimpleNamespace(inputs=lambda: [tensor]))
        {'PROMPT': array([[b'{}']], dtype=object)}
    """
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def images_of(request: Tensors, limits: Limits, decode: Decoder = load_image) -> list[NDArray[np.uint8]]:
    """The images of a request, each (h, w, 3) uint8 RGB.

    Args:
        request: its input tensors.
        limits: of an image file and of pixels.
        decode: reads image files as `load_image` does.

    Raises:
        ImageError: one of them is not an image or exceeds the limits, or IMAGE and PIXELS are both given or both
            missing.

    Example:
        >>> request = {"PIXELS": np.zeros((2, 40, 60, 3), np.uint8)}
        >>> [image.shape for image in images_of(request, Limits())]
        [(40, 60, 3), (40, 60, 3)]
    """
    if (IMAGE in request) == (PIXELS in request):
        present = "both" if IMAGE in request else "neither"
        raise ImageError(f"{present} of {IMAGE} and {PIXELS} given; expected one of them")
    if PIXELS in request:
        return [load_image(limits.check_pixels(pixels), name=PIXELS) for pixels in request[PIXELS]]
    contents = request[IMAGE].ravel()
    names = [IMAGE if len(contents) == 1 else f"{IMAGE} {i} of {len(contents)}" for i in range(len(contents))]
    return [
        decode(limits.check_bytes(content), max_pixels=limits.pixels, name=name)
        for content, name in zip(contents, names, strict=True)
    ]


def questions_of(request: Tensors, count: int, limits: Limits) -> list[Question]:
    """The question about each of the `count` images of a request.

    Raises:
        PromptError, ParameterError: see `Question.from_json`.

    Example:
        >>> request = {"PROMPT": np.array([[b'{"conf": 0.25}'], [b"{}"]], np.object_)}
        >>> [question.thresholds.conf for question in questions_of(request, 2, Limits())]
        [0.25, 0.4]
    """
    if PROMPT not in request:
        return [Question.from_json("{}", limits)] * count
    return [Question.from_json(text, limits) for text in request[PROMPT].ravel()]


def result_or_error(stage: Callable[..., _Value], *arguments: Any) -> _Value | Exception:
    """The result of a stage for one request, or its error: a bug in one request must not fail the others.

    Example:
        >>> result_or_error(int, "7"), result_or_error(images_of, {}, Limits())
        (7, ImageError('neither of IMAGE and PIXELS given; expected one of them'))
    """
    try:
        return stage(*arguments)
    except FastSamError as error:
        return error
    except Exception as error:  # noqa: BLE001 the log keeps the traceback, and the client gets 500
        _log.exception("a request failed")
        return error


def responses(results: Sequence[Result]) -> list[Any]:
    """Responses of the Python backend.

    - 400 / INVALID_ARGUMENT: the request is wrong.
    - 503 / UNAVAILABLE: another model of this server is busy or not loaded.
    - 500 / INTERNAL: a network failed, or there is a bug.

    A message begins with the kind of the error, for clients that act on it.

    Example:
        >>> responses([PromptError("point 0 is outside")])          # doctest: +SKIP
        [<c_python_backend_utils.InferenceResponse object at 0x7f…>]
    """
    import triton_python_backend_utils as pb

    def response(result: Result) -> Any:
        if isinstance(result, FastSamError):
            code = pb.TritonError.INTERNAL
            if isinstance(result, (ImageError, ParameterError, PromptError)):
                code = pb.TritonError.INVALID_ARG
            elif isinstance(result, ServerError):
                code = pb.TritonError.UNAVAILABLE
            return pb.InferenceResponse(error=pb.TritonError(error_text(result)[:_LONGEST_MESSAGE], code))
        if isinstance(result, Exception):
            return pb.InferenceResponse(error=pb.TritonError(f"bug in the server: {result!r}", pb.TritonError.INTERNAL))
        return pb.InferenceResponse([pb.Tensor(name, values) for name, values in result.items()])

    return [response(result) for result in results]
