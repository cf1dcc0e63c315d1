"""What Triton's Python models do with requests: the stages of the runtime, one error for one request.

The models under triton_models/ are the thin ends of this. A request is its input tensors by name; what comes back
for it is its output tensors, or the error that it alone gets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip
from ..clip.features import with_image
from ..errors import FastSamError, ImageError, ParameterError, PromptError, ServerError
from ..pipeline import FastSAM
from ..segments import Segments
from ..spec import METADATA_KEY, PROTOTYPE_STRIDE, ModelSpec, imgsz_for, parameters_of
from ..stages.image import load_image
from ..stages.letterbox import Letterbox, fit_model, letterbox
from ..stages.postprocess import postprocess
from ..wire.answer import Tensors, answer_tensors, error_text
from ..wire.question import Limits, Question
from ..wire.tensors import IMAGE, PIXELS, PROMPT
from .clip import clip_on_this_server

Result = Tensors | Exception
_LONGEST_MESSAGE = 1000  # characters; what a client sent wrongly may be quoted in it
_log = logging.getLogger(__name__)


class Parameters:
    """The `parameters` of a model's configuration, each a text.

    Args:
        config: the model's configuration as the Python backend gives it, read from JSON.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._texts = parameters_of(config)

    def text(self, name: str, default: str = "") -> str:
        """The parameter, or `default` where it is not there or empty."""
        return self._texts.get(name) or default

    def number(self, name: str) -> int | None:
        """The parameter as a whole number, None where it is not there or empty."""
        text = self.text(name)
        try:
            return int(text) if text else None
        except ValueError:
            raise ParameterError(f"parameter {name} is {text!r}, expected a whole number") from None

    @property
    def rect(self) -> bool:
        """Whether the input of the network is the smallest rectangle round the image."""
        return self.text("rect", "true") == "true"

    @property
    def limits(self) -> Limits:
        """`limit_…` parameters, the rest as usual."""
        given = {limit.name: self.number(f"limit_{limit.name}") for limit in fields(Limits)}
        return Limits(**{name: value for name, value in given.items() if value is not None})

    def clip(self, folder: Path) -> Clip | None:
        """The encoders of a repository that has them, None for one that has not.

        Args:
            folder: where the tokenizer is.
        """
        text = self.text("clip")
        return clip_on_this_server(text, folder) if text else None

    @property
    def spec(self) -> ModelSpec:
        """The network of the repository."""
        return ModelSpec.from_json(self.text(METADATA_KEY, "{}"), "model configuration")


class _Stage:
    """A step of the ensemble. Both of ours must see the same place of an image in the network's input."""

    def __init__(self, parameters: Parameters) -> None:
        self._spec, self._rect, self._limits = parameters.spec, parameters.rect, parameters.limits
        self._imgsz = imgsz_for(self._spec, parameters.number("imgsz"))

    def __call__(self, requests: Sequence[Tensors]) -> list[Result]:
        """One result for each request."""
        return [_guarded(self._one, request) for request in requests]

    def _one(self, request: Tensors) -> Tensors:
        raise NotImplementedError

    def _place(self, height: int, width: int) -> Letterbox:
        return fit_model((height, width), self._spec, self._imgsz, self._rect)


class Preprocess(_Stage):
    """`fastsam_preprocess`: image files or pixels → the network's input and the size of each image.

    PROMPT is read here too: what does not fit the image is refused before the network runs for nothing.
    """

    def _one(self, request: Tensors) -> Tensors:
        images = images_of(request, self._limits)
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        for question, size in zip(questions_of(request, len(images), self._limits), sizes, strict=True):
            question.check_inside(size)
        places = [self._place(height, width) for height, width in sizes]
        shapes = sorted({place.input_hw for place in places})
        if len(shapes) > 1:
            raise ImageError(
                f"the {len(images)} images of one request need network inputs of {len(shapes)} shapes, "
                f"{shapes[0]} and {shapes[1]}; send them one by one, or serve the model with --square"
            )
        blob = np.empty((len(images), 3, *shapes[0]), np.float32)
        for image, place, row in zip(images, places, blob, strict=True):
            letterbox(image, place, row)
        return {
            self._spec.input: blob.astype(self._spec.input_dtype, copy=False),
            "IMAGE_SIZE": np.array(sizes, np.int32),
        }


class Postprocess(_Stage):
    """`fastsam_postprocess`: the network's outputs and the sizes of the images → answers."""

    def __init__(self, parameters: Parameters, folder: Path) -> None:
        """
        Args:
            folder: of this version of the model; with the parameter `clip`, the tokenizer is in it.
        """
        super().__init__(parameters)
        self._clip = parameters.clip(folder)

    def _one(self, request: Tensors) -> Tensors:
        rows = list(
            zip(request[self._spec.detections], request[self._spec.prototypes], request["IMAGE_SIZE"], strict=True)
        )
        questions = questions_of(request, len(rows), self._limits)
        answers = []
        looking = self._clip is not None and any(question.looks_at_the_image for question in questions)
        images = images_of(request, self._limits) if looking else [None] * len(rows)
        for (detections, prototypes, (height, width)), question, image in zip(rows, questions, images, strict=True):
            place = self._place(int(height), int(width))
            input_hw = tuple(PROTOTYPE_STRIDE * side for side in prototypes.shape[1:])
            if place.input_hw != input_hw:
                raise ParameterError(
                    f"an image of {width}×{height} has a network input of {place.input_hw}, the prototypes come from "
                    f"{input_hw}; fastsam_preprocess and fastsam_postprocess need the same imgsz and rect"
                )
            found = postprocess(detections, prototypes, place, self._spec, question.thresholds)
            if self._clip is not None and image is not None:
                found = with_image(found, image, self._clip)
            answers.append(question.select_from(found, self._limits))
        return answer_tensors(answers, [question.masks for question in questions])


class WholePipeline:
    """`fastsam_device`: image files or pixels → answers, everything in one process."""

    def __init__(self, parameters: Parameters, folder: Path, device: str) -> None:
        """
        Args:
            folder: of this version of the model; the parameter `model` is a file in it.
            device: "cpu" or "cuda:N".

        Raises:
            FastSamError: the model cannot be opened on the device.
        """
        self._limits = parameters.limits
        settings: dict[str, Any] = {
            "imgsz": parameters.number("imgsz"),
            "rect": parameters.rect,
            "clip": parameters.clip(folder),
        }
        file = folder / parameters.text("model", "model.onnx")
        self._model: FastSAM
        if device == "cpu":
            self._model = FastSAM(file, device, threads=parameters.number("threads"), **settings)
        else:
            from ..trt import TRTFastSAM

            self._model = TRTFastSAM(file, device, **settings)

    def __call__(self, requests: Sequence[Tensors]) -> list[Result]:
        """One result for each request; the network runs once for all images of one shape."""
        read = [_guarded(self._read, request) for request in requests]
        good = [found for found in read if not isinstance(found, Exception)]
        found = iter(self._run(good))
        return [one if isinstance(one, Exception) else next(found) for one in read]

    def close(self) -> None:
        """Free the network."""
        self._model.close()

    def _read(self, request: Tensors) -> tuple[list[NDArray[np.uint8]], list[Question]]:
        images = images_of(request, self._limits)
        return images, questions_of(request, len(images), self._limits)

    def _run(self, requests: Sequence[tuple[list[NDArray[np.uint8]], list[Question]]]) -> list[Result]:
        try:
            everything = iter(self._segments(requests))
        except Exception:  # noqa: BLE001 one of them spoils the batch: alone, only that one fails
            return [_guarded(lambda one: self._answer((self._segments([one]), one[1])), each) for each in requests]
        return [
            _guarded(self._answer, ([next(everything) for _ in images], questions)) for images, questions in requests
        ]

    def _segments(self, requests: Sequence[tuple[list[NDArray[np.uint8]], list[Question]]]) -> list[Segments]:
        images = [image for found, _ in requests for image in found]
        thresholds = [question.thresholds for _, questions in requests for question in questions]
        return self._model.segment_batch(images, thresholds=thresholds)

    def _answer(self, found: tuple[list[Segments], list[Question]]) -> Tensors:
        pairs = zip(*found, strict=True)
        answers = [question.select_from(everything, self._limits) for everything, question in pairs]
        return answer_tensors(answers, [question.masks for question in found[1]])


def images_of(request: Tensors, limits: Limits) -> list[NDArray[np.uint8]]:
    """The images of a request, (h, w, 3) uint8 RGB each.

    Raises:
        ImageError: one is none, is larger than the limits, or IMAGE and PIXELS are both given or both missing.
    """
    if (IMAGE in request) == (PIXELS in request):
        given = "both" if IMAGE in request else "neither"
        raise ImageError(f"{given} of {IMAGE} and {PIXELS} given; expected one of them")
    if PIXELS in request:
        return [load_image(limits.check_pixels(pixels), name=PIXELS) for pixels in request[PIXELS]]
    contents = request[IMAGE].ravel()
    names = [IMAGE if len(contents) == 1 else f"{IMAGE} {i} of {len(contents)}" for i in range(len(contents))]
    return [
        load_image(limits.check_bytes(content), max_pixels=limits.pixels, name=name)
        for content, name in zip(contents, names, strict=True)
    ]


def questions_of(request: Tensors, count: int, limits: Limits) -> list[Question]:
    """What is asked of each of the `count` images of a request.

    Raises:
        PromptError, ParameterError: see `Question.from_json`.
    """
    if PROMPT not in request:
        return [Question.from_json("{}", limits)] * count
    return [Question.from_json(text, limits) for text in request[PROMPT].ravel()]


def _guarded(stage: Callable[[Any], Any], request: Any) -> Any:
    """What the stage makes of one request, or its error: a bug met by one request must not fail the others."""
    try:
        return stage(request)
    except FastSamError as error:
        return error
    except Exception as error:  # noqa: BLE001 the log keeps the traceback, and the client gets 500
        _log.exception("a request failed")
        return error


def inputs_of(request: Any) -> Tensors:
    """Input tensors of a request of the Python backend."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def responses(results: Sequence[Result]) -> list[Any]:
    """Responses of the Python backend.

    400 / INVALID_ARGUMENT for what the request did wrong, 503 / UNAVAILABLE where a model beside this one is busy or
    not loaded, 500 / INTERNAL for networks that fail and for bugs.

    The message begins with the kind of the error, for clients that act on it.
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
