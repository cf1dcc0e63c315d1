"""The work of Triton's Python models: the stages of the runtime, for a batch of requests.

The models under triton_models/ are thin wrappers of these classes. A request is a dictionary of its input tensors. The
result is a dictionary of output tensors, or the error of this request alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip.features import with_image
from ..engines.registry import engines_for
from ..errors import ImageError, ParameterError
from ..pipeline import FastSAM
from ..segments import Segments
from ..spec import PROTOTYPE_STRIDE, imgsz_for
from ..stages.letterbox import Letterbox, fit_model, letterbox
from ..stages.postprocess import postprocess
from ..wire.answer import Tensors, answer_tensors
from ..wire.question import Question
from ..wire.tensors import IMAGE_SIZE
from .parameters import Parameters
from .requests import Result, images_of, questions_of, result_or_error

_Request = tuple[list[NDArray[np.uint8]], list[Question]]
"""The images of a request, and the question about each."""


class _Stage:
    """A step of the ensemble. Both steps must place an image at the same position in the network's input."""

    _decodes_always = False

    def __init__(self, parameters: Parameters) -> None:
        self._spec, self._rect, self._limits = parameters.spec, parameters.rect, parameters.limits
        self._imgsz = imgsz_for(self._spec, parameters.number("imgsz"))
        self._decode = parameters.decoder(started=self._decodes_always)

    def __call__(self, requests: Sequence[Tensors]) -> list[Result]:
        """One result for each request."""
        return [result_or_error(self._outputs, request) for request in requests]

    def _outputs(self, request: Tensors) -> Tensors:
        raise NotImplementedError

    def _place(self, height: int, width: int) -> Letterbox:
        return fit_model((height, width), self._spec, self._imgsz, self._rect)


class Preprocess(_Stage):
    """`fastsam_preprocess`: image files or pixels → the network's input and the size of each image.

    PROMPT is parsed here to refuse a bad one before the network runs, and again in `Postprocess`, which answers it: the
    steps of an ensemble pass on only tensors.

    Example:
        >>> preprocess = Preprocess(Parameters({"parameters": {"imgsz": {"string_value": "64"}}}))
        >>> (outputs,) = preprocess([{"PIXELS": np.zeros((1, 40, 60, 3), np.uint8)}])
        >>> outputs["images"].shape, outputs["IMAGE_SIZE"].tolist()
        ((1, 3, 64, 64), [[40, 60]])
    """

    _decodes_always = True

    def _outputs(self, request: Tensors) -> Tensors:
        images = images_of(request, self._limits, self._decode)
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
            IMAGE_SIZE: np.array(sizes, np.int32),
        }


class Postprocess(_Stage):
    """`fastsam_postprocess`: the network's outputs and the sizes of the images → answers.

    Example:
        >>> parameters = Parameters({"parameters": {"imgsz": {"string_value": "64"}}})
        >>> detections, prototypes = np.zeros((1, 37, 84), np.float32), np.zeros((1, 32, 16, 16), np.float32)
        >>> request = {"output0": detections, "output1": prototypes, "IMAGE_SIZE": np.array([[40, 60]])}
        >>> (outputs,) = Postprocess(parameters, Path("1"))([request])
        >>> outputs["COUNT"].tolist()
        [[0]]
    """

    def __init__(self, parameters: Parameters, folder: Path) -> None:
        """
        Args:
            parameters: of the model's configuration.
            folder: the model's version folder. With the parameter `clip`, it holds the tokenizer.
        """
        super().__init__(parameters)
        self._clip = parameters.clip(folder)

    def _outputs(self, request: Tensors) -> Tensors:
        rows = list(
            zip(request[self._spec.detections], request[self._spec.prototypes], request[IMAGE_SIZE], strict=True)
        )
        questions = questions_of(request, len(rows), self._limits)
        answers = []
        needs_images = self._clip is not None and any(question.looks_at_the_image for question in questions)
        images = images_of(request, self._limits, self._decode) if needs_images else [None] * len(rows)
        for (detections, prototypes, size_hw), question, image in zip(rows, questions, images, strict=True):
            height, width = (int(side) for side in size_hw)
            self._limits.check_hw(height, width, IMAGE_SIZE)
            place = self._place(height, width)
            input_hw = tuple(PROTOTYPE_STRIDE * side for side in prototypes.shape[1:])
            if place.input_hw != input_hw:
                raise ParameterError(
                    f"an image of {width}×{height} has a network input of {place.input_hw}, the prototypes come from "
                    f"{input_hw}; fastsam_preprocess and fastsam_postprocess need the same imgsz and rect"
                )
            segments = postprocess(detections, prototypes, place, self._spec, question.thresholds)
            if self._clip is not None and image is not None:
                segments = with_image(segments, image, self._clip)
            answers.append(question.select_from(segments, self._limits))
        return answer_tensors(answers, [question.masks for question in questions], self._limits.answer_bytes)


class WholePipeline:
    """`fastsam_device`: image files or pixels → answers, everything in one process.

    Example:
        >>> pipeline = WholePipeline(Parameters({}), Path("fastsam_device/1"), "cpu")       # doctest: +SKIP
        >>> (outputs,) = pipeline([{"PIXELS": np.zeros((1, 40, 60, 3), np.uint8)}])          # doctest: +SKIP
        >>> outputs["COUNT"].tolist()                                                        # doctest: +SKIP
        [[0]]
    """

    def __init__(self, parameters: Parameters, folder: Path, device: str) -> None:
        """
        Args:
            parameters: of the model's configuration.
            folder: the model's version folder, which holds the file of the parameter `model`.
            device: "cpu" or "cuda:N".

        Raises:
            FastSamError: the model cannot be opened on the device.
        """
        self._limits, self._decode = parameters.limits, parameters.decoder(started=True)
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

            # Kernels that are compiled here are kept for the next start, where the folder can be written.
            cache = any("cache" in entry.device_settings for entry in engines_for(file.suffix))
            self._model = TRTFastSAM(file, device, cache=cache, **settings)

    def __call__(self, requests: Sequence[Tensors]) -> list[Result]:
        """One result for each request; the network runs once for all images of one shape."""
        parsed = [result_or_error(self._parse, request) for request in requests]
        results = iter(self._run([request for request in parsed if not isinstance(request, Exception)]))
        return [request if isinstance(request, Exception) else next(results) for request in parsed]

    def close(self) -> None:
        """Free the network."""
        self._model.close()

    def _parse(self, request: Tensors) -> _Request:
        images = images_of(request, self._limits, self._decode)
        return images, questions_of(request, len(images), self._limits)

    def _run(self, requests: Sequence[_Request]) -> list[Result]:
        try:
            segments = iter(self._segments(requests))
        except Exception:  # noqa: BLE001 one request fails the whole batch: run each alone, and only that one fails
            return [result_or_error(self._run_alone, request) for request in requests]
        return [
            result_or_error(self._answer, [next(segments) for _ in images], questions) for images, questions in requests
        ]

    def _run_alone(self, request: _Request) -> Tensors:
        return self._answer(self._segments([request]), request[1])

    def _segments(self, requests: Sequence[_Request]) -> list[Segments]:
        """All segments of each image, over all requests."""
        images = [image for images, _ in requests for image in images]
        thresholds = [question.thresholds for _, questions in requests for question in questions]
        return self._model.segment_batch(images, thresholds=thresholds)

    def _answer(self, segments: Sequence[Segments], questions: Sequence[Question]) -> Tensors:
        pairs = zip(segments, questions, strict=True)
        answers = [question.select_from(everything, self._limits) for everything, question in pairs]
        return answer_tensors(answers, [question.masks for question in questions], self._limits.answer_bytes)
