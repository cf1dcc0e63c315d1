"""Images → segments on a Triton server: the models `fastsam` and `fastsam_device`."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip
from ..clip.features import with_image
from ..errors import FastSamError, ParameterError, ServerError
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..spec import METADATA_KEY, ModelSpec, parameters_of
from ..stages.image import ImageSource, encoded_bytes, is_plain_file, load_image
from ..wire.answer import OUTPUTS, answers_from_tensors, error_from_text
from ..wire.question import Question
from ..wire.tensors import IMAGE, PIXELS, PROMPT
from .asking import numbered, sent_prompts

if TYPE_CHECKING:
    from ..engines.triton.client import TritonClient


class RemoteSegmenter:
    """A segmenter whose stages run on a server. Safe to use from many threads at once.

    Example:
        >>> client = open_client("grpc://localhost:8001/fastsam", EngineSettings())  # doctest: +SKIP
        >>> segmenter = RemoteSegmenter(client)  # doctest: +SKIP
        >>> (segments,) = segmenter.segment_batch(["photo.jpg"], None, [Thresholds()], "RGB")  # doctest: +SKIP
    """

    def __init__(
        self, client: TritonClient, imgsz: int | None = None, rect: bool | None = None, *, clip: Clip | None = None
    ) -> None:
        """
        Args:
            client: for `fastsam` or `fastsam_device`; it is closed with this object.
            imgsz, rect: the values that the server must have; None for any.
            clip: for text prompts, which are then answered here and not on the server; it is not closed with this
                object.

        Raises:
            ParameterError: the server has other values of imgsz or rect.
        """
        self._client = client
        self._clip = clip
        parameters = parameters_of(client.config)
        name = client.address.text
        try:
            self.spec = ModelSpec.from_json(parameters.get(METADATA_KEY, ""), name)
            self.imgsz, self.rect = int(parameters["imgsz"]), parameters["rect"] == "true"
            for setting, expected, served in (("imgsz", imgsz, self.imgsz), ("rect", rect, self.rect)):
                if expected is not None and expected != served:
                    raise ParameterError(
                        f"{setting} is {expected}, the server {name} has {served}; leave {setting} out"
                    )
        except BaseException:
            client.close()
            raise
        self.device = client.address.host
        self.description: dict[str, Any] = {"engine": "triton", "address": name}

    def segment_batch(
        self,
        images: Sequence[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None,
        thresholds: Sequence[Thresholds],
        color: str,
    ) -> list[Segments]:
        """See `FastSAM.segment_batch`. Each image is a separate request; the server makes batches."""
        sent = sent_prompts(prompt, self._clip)
        requests = []
        for i, (image, limits) in enumerate(zip(images, thresholds, strict=True)):
            text = Question(sent, limits, "bits").to_json().encode()
            with numbered(i, len(images)):
                requests.append({**_image_tensor(image, color), PROMPT: _element(text)})
        start = perf_counter()
        answers = self._client.infer_many(requests, OUTPUTS)
        ms = (perf_counter() - start) * 1000 / max(1, len(images))
        results = []
        for i, answer in enumerate(answers):
            if isinstance(answer, Exception):
                with numbered(i, len(images)):
                    raise _fastsam_error(answer, self._client.address.text) from answer
            (segments,) = answers_from_tensors(answer, self.spec.class_names, {"server": ms})
            if self._clip is not None:
                segments = with_image(segments, _sent_image(requests[i]), self._clip)
            results.append(segments.select(prompt) if prompt is not None and not sent else segments)
        return results

    def sends_undecoded(self, image: ImageSource) -> bool:
        """See `Segmenter.sends_undecoded`: True for files and their contents."""
        return is_plain_file(image)

    def for_stream(self) -> tuple[RemoteSegmenter, int]:
        """See `LocalSegmenter.for_stream`: as many threads as the connection allows requests at once."""
        return self, self._client.in_flight

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def segments_images(client: TritonClient) -> bool:
    """Whether the model of a client takes images (and not the tensors of a network).

    Example:
        >>> segments_images(open_client("grpc://localhost:8001/fastsam", EngineSettings()))  # doctest: +SKIP
        True
    """
    return any(tensor["name"] == IMAGE for tensor in client.config.get("input", ()))


def _image_tensor(image: ImageSource, color: str) -> dict[str, NDArray[Any]]:
    """A file as it is, which the server decodes; any other image as pixels."""
    content = encoded_bytes(image)
    return {PIXELS: load_image(image, color=color)[None]} if content is None else {IMAGE: _element(content)}


def _sent_image(request: dict[str, NDArray[Any]]) -> ImageSource:
    """The image as sent, in RGB. The source itself may be a stream that has been read to its end."""
    return bytes(request[IMAGE][0, 0]) if IMAGE in request else request[PIXELS][0]


def _element(content: bytes) -> NDArray[Any]:
    tensor = np.empty((1, 1), np.object_)
    tensor[0, 0] = content
    return tensor


def _fastsam_error(error: Exception, address: str) -> FastSamError:
    if isinstance(error, FastSamError):
        return error
    return error_from_text(str(error)) or ServerError(f"{address}: {error}")
