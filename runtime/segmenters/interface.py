"""The interface of segmenters: images → segments, wherever the stages run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..spec import ModelSpec
from ..stages.image import ImageSource


class Segmenter(Protocol):
    """A network and the stages around it. `LocalSegmenter`, `DeviceSegmenter` and `RemoteSegmenter` implement it.

    Example:
        >>> segmenter: Segmenter = open_segmenter("FastSAM-s.onnx", EngineSettings())  # doctest: +SKIP
        >>> (segments,) = segmenter.segment_batch(["photo.jpg"], None, [Thresholds()], "RGB")  # doctest: +SKIP
    """

    @property
    def spec(self) -> ModelSpec:
        """Inputs and outputs of the model."""
        ...

    @property
    def device(self) -> str:
        """Where the network runs: "cpu", "cuda:0", or the host of the server."""
        ...

    @property
    def description(self) -> dict[str, Any]:
        """Library, version and settings of the network, for reports."""
        ...

    @property
    def imgsz(self) -> int:
        """Longest side of the network's input, pixels."""
        ...

    def segment_batch(
        self,
        images: Sequence[ImageSource],
        prompt: Prompt | Sequence[Prompt] | None,
        thresholds: Sequence[Thresholds],
        color: str,
    ) -> list[Segments]:
        """See `FastSAM.segment_batch`. There is one value of thresholds for each image."""
        ...

    def sends_undecoded(self, image: ImageSource) -> bool:
        """Whether this image is sent to a server without decoding it. Decoded, it would make the request larger."""
        ...

    def for_stream(self) -> tuple[Segmenter, int]:
        """The segmenter for a stream, and the number of threads to call it from. It is closed with this one."""
        ...

    def close(self) -> None:
        """Close the network, if it was opened by this object, or the connection. A second call does nothing."""
        ...
