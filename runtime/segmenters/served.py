"""Images → segments on a `fastsam serve`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from io import BytesIO
from time import perf_counter
from typing import Any

from PIL import Image

from ..clip.encoders import Clip
from ..clip.features import with_image
from ..connection import Connection, ServeAddress
from ..errors import FastSamError, ModelError, ParameterError
from ..formats import LoadedColumns, npz
from ..prompts.base import PromptKind
from ..segments import Prompt, Segments
from ..settings import EngineSettings, Thresholds, refuse_settings
from ..spec import ModelSpec
from ..stages.image import ImageSource, encoded_bytes, is_plain_file, load_image
from .asking import numbered, sent_prompts
from .serve_client import ServeClient

_QUICK_COMPRESSION = 1
_COLUMNS = tuple(column.name for column in fields(LoadedColumns))


class ServedSegmenter:
    """A segmenter whose stages run on a `fastsam serve`. Safe to use from many threads at once.

    Example:
        >>> segmenter = open_served("http+fastsam://localhost:8080", EngineSettings())  # doctest: +SKIP
        >>> (segments,) = segmenter.segment_batch(["photo.jpg"], None, [Thresholds()], "RGB")  # doctest: +SKIP
    """

    def __init__(self, client: ServeClient, imgsz: int | None = None, *, clip: Clip | None = None) -> None:
        """
        Args:
            client: of the server.
            imgsz: the value that the server must have; None for any.
            clip: for text prompts, which are then answered here; it is not closed with this object.

        Raises:
            ServerError: the server is away.
            ModelError: its answer cannot be understood.
            ParameterError: it has another value of imgsz.
        """
        self._client, self._clip = client, clip
        name = client.address.text
        document = client.describe()
        self.spec = ModelSpec.from_json(str(document.get("spec", "")), name)
        served = document.get("imgsz")
        if isinstance(served, bool) or not isinstance(served, int):
            raise ModelError(f"{name}: imgsz is {served!r:.60}, expected a number; does it run the same version?")
        if imgsz is not None and imgsz != served:
            raise ParameterError(f"imgsz is {imgsz}, the server {name} has {served}; leave imgsz out")
        self.imgsz = served
        self.device = client.address.host
        self.description: dict[str, Any] = {"engine": "fastsam serve", "address": name}

    def segment_batch(
        self,
        images: Sequence[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None,
        thresholds: Sequence[Thresholds],
        color: str,
    ) -> list[Segments]:
        """See `FastSAM.segment_batch`. Each image is a request of its own; the server makes batches."""
        sent = sent_prompts(prompt, self._clip)

        def segment(i: int) -> Segments:
            with numbered(i, len(images)):
                segments = self._segmented(images[i], sent, thresholds[i], color)
            return segments.select(prompt) if prompt is not None and not sent else segments

        at_once = min(len(images), self._client.connection.in_flight)
        if at_once < 2:
            return [segment(i) for i in range(len(images))]
        with ThreadPoolExecutor(at_once, "fastsam-serve") as pool:
            return list(pool.map(segment, range(len(images))))

    def sends_undecoded(self, image: ImageSource) -> bool:
        """See `Segmenter.sends_undecoded`: True for files and their contents."""
        return is_plain_file(image)

    def for_stream(self) -> tuple[ServedSegmenter, int]:
        """See `LocalSegmenter.for_stream`: as many threads as the connection allows requests at once."""
        return self, self._client.connection.in_flight

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    def _segmented(
        self, image: ImageSource, prompts: Sequence[PromptKind], thresholds: Thresholds, color: str
    ) -> Segments:
        start = perf_counter()
        content = _file_of(image, color)
        asked = {**asdict(thresholds), "format": "npz", "keep": False}
        if prompts:
            asked["prompts"] = [prompt.to_json() for prompt in prompts]
        answer = self._client.segment(content, asked)
        try:
            columns = npz.decode(answer)
            segments = Segments(**{name: getattr(columns, name) for name in _COLUMNS})
        except (FastSamError, ValueError) as error:
            raise ModelError(
                f"{self._client.address.text}: the answer cannot be read ({error}); does the server run the same "
                "version?"
            ) from error
        if self._clip is not None:
            segments = with_image(segments, content, self._clip)
        return replace(segments, timing_ms={"server": (perf_counter() - start) * 1000})


def open_served(
    address: str,
    settings: EngineSettings,
    connection: Connection | None = None,
    *,
    imgsz: int | None = None,
    rect: bool | None = None,
    clip: Clip | None = None,
) -> ServedSegmenter:
    """Open a segmenter on a `fastsam serve`.

    Args:
        address: `http+fastsam://HOST:8080`, see `ServeAddress`.
        settings: of an engine in this process, which a server refuses.
        connection: time limits, retries, headers, TLS. Memory is not shared.
        imgsz: the value that the server must have; None for any.
        rect: left out, as it is the server's.
        clip: for text prompts; it is not closed with the segmenter.

    Raises:
        ParameterError: the address or a setting is wrong.
        ServerError: the server cannot be reached.

    Example:
        >>> segmenter = open_served("http+fastsam://localhost:8080", EngineSettings())  # doctest: +SKIP
    """
    parsed = ServeAddress.from_text(address)
    refuse_settings(settings, address, "the server has its own:")
    if rect is not None:
        raise ParameterError(f"{address}: rect is {rect!r}; the server has its own: leave rect out")
    return ServedSegmenter(ServeClient(parsed, connection or Connection()), imgsz, clip=clip)


def _file_of(image: ImageSource, color: str) -> bytes:
    """A file as it is, which the server decodes; any other image as PNG, which keeps every value."""
    content = encoded_bytes(image)
    if content is not None:
        return content
    stream = BytesIO()
    Image.fromarray(load_image(image, color=color)).save(stream, "PNG", compress_level=_QUICK_COMPRESSION)
    return stream.getvalue()
