"""What every segmenter offers: images → segments, wherever the stages run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..segments import Prompt, Segments
from ..settings import Thresholds
from ..spec import ModelSpec
from ..stages.image import ImageSource


class Segmenter(Protocol):
    """The stages around one network: `LocalSegmenter`, `DeviceSegmenter`, `RemoteSegmenter`. `close` may come twice."""

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""
        ...

    @property
    def device(self) -> str:
        """What the network runs on: "cpu", "cuda:0", or the server's host."""
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
        """See `FastSAM.segment_batch`; thresholds are one for each image."""
        ...

    def sends_undecoded(self, image: ImageSource) -> bool:
        """Whether this image leaves the process as it is: to decode it first would only make the message larger."""
        ...

    def for_stream(self) -> tuple[Segmenter, int]:
        """What a stream calls, and from how many threads at once. It is closed with this one."""
        ...

    def close(self) -> None:
        """Free what is its own: the network, or the connection."""
        ...
