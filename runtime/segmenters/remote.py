"""Images → segments on a Triton server: the models `fastsam` and `fastsam_device`."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..clip.encoders import Clip
from ..clip.features import with_image
from ..errors import FastSamError, ImageError, ParameterError, ServerError
from ..prompts.base import listed, looks_at_image
from ..prompts.kinds import is_registered
from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..spec import METADATA_KEY, ModelSpec, parameters_of
from ..stages.image import ImageSource, encoded_bytes, is_plain_file, load_image
from ..wire.answer import OUTPUTS, answers_from_tensors, error_from_text
from ..wire.question import Question
from ..wire.tensors import IMAGE, PIXELS, PROMPT

if TYPE_CHECKING:
    from ..engines.triton.client import TritonClient


class RemoteSegmenter:
    """The counterpart of `LocalSegmenter` whose stages run on a server. Usable from many threads at once."""

    def __init__(
        self, client: TritonClient, imgsz: int | None = None, rect: bool | None = None, *, clip: Clip | None = None
    ) -> None:
        """
        Args:
            client: of one of the two models; closed with this.
            imgsz, rect: what the caller expects of the server; None for whatever it has.
            clip: what text prompts ask, here and not on the server; stays the caller's to close.

        Raises:
            ParameterError: the server has another imgsz or rect.
        """
        self._client = client
        self._clip = clip
        given = parameters_of(client.config)
        name = client.address.text
        try:
            self.spec = ModelSpec.from_json(given.get(METADATA_KEY, ""), name)
            self.imgsz, self.rect = int(given["imgsz"]), given["rect"] == "true"
            for what, asked, served in (("imgsz", imgsz, self.imgsz), ("rect", rect, self.rect)):
                if asked is not None and asked != served:
                    raise ParameterError(f"{what} is {asked}, the server {name} has {served}; leave {what} out")
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
        """See `FastSAM.segment_batch`; each image is a request of its own, the server makes batches of them."""
        prompts = listed(prompt)
        # Prompts of the caller's own kind are answered here, from everything; texts where the encoders are here.
        here = self._clip is not None and looks_at_image(prompts)
        sent = prompts if not here and all(map(is_registered, prompts)) else ()
        requests = []
        for i, (image, limits) in enumerate(zip(images, thresholds, strict=True)):
            text = Question(sent, limits, "bits").to_json().encode()
            with _numbered(i, len(images)):
                requests.append({**_image_tensor(image, color), PROMPT: _element(text)})
        start = perf_counter()
        answers = self._client.infer_many(requests, OUTPUTS)
        ms = (perf_counter() - start) * 1000 / max(1, len(images))
        results = []
        for i, answer in enumerate(answers):
            if isinstance(answer, Exception):
                with _numbered(i, len(images)):
                    raise _our_error(answer, self._client.address.text) from answer
            (segments,) = answers_from_tensors(answer, self.spec.class_names, {"server": ms})
            if self._clip is not None:
                segments = with_image(segments, _sent_image(requests[i]), self._clip)
            results.append(segments.select(prompt) if prompt is not None and not sent else segments)
        return results

    def sends_undecoded(self, image: ImageSource) -> bool:
        """See `Segmenter.sends_undecoded`: files and their contents."""
        return is_plain_file(image)

    def for_stream(self) -> tuple[RemoteSegmenter, int]:
        """See `LocalSegmenter.for_stream`: as many requests as the connection has under way at once."""
        return self, self._client.in_flight

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def segments_images(client: TritonClient) -> bool:
    """Whether the model takes images (and not a network's tensors)."""
    return any(tensor["name"] == IMAGE for tensor in client.config.get("input", ()))


class _numbered:  # noqa: N801 used as a statement
    """Says which of several images an ImageError is about."""

    def __init__(self, i: int, count: int) -> None:
        self._i, self._count = i, count

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ImageError) and self._count > 1:
            raise ImageError(f"image {self._i} of {self._count}: {error}") from error


def _image_tensor(image: ImageSource, color: str) -> dict[str, NDArray[Any]]:
    """A file as it is: decoding is the server's work. Anything else as pixels."""
    content = encoded_bytes(image)
    return {PIXELS: load_image(image, color=color)[None]} if content is None else {IMAGE: _element(content)}


def _sent_image(request: dict[str, NDArray[Any]]) -> ImageSource:
    """What was sent, RGB: the caller's own may be a stream, which is at its end now."""
    return bytes(request[IMAGE][0, 0]) if IMAGE in request else request[PIXELS][0]


def _element(content: bytes) -> NDArray[Any]:
    tensor = np.empty((1, 1), np.object_)
    tensor[0, 0] = content
    return tensor


def _our_error(error: Exception, address: str) -> FastSamError:
    if isinstance(error, FastSamError):
        return error
    return error_from_text(str(error)) or ServerError(f"{address}: {error}")
