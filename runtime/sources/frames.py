"""Frames of a video, whatever they come from: the interface of all sources."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, as its file or camera says.

    Attributes:
        hw: (h, w) of a frame, pixels, upright.
        fps: frames per second, on average.
        frames: number of frames according to the container; an estimate. 0: not known, as of a camera.

    Example:
        >>> info = VideoInfo((1080, 1920), fps=25.0, frames=250)
        >>> info.frames / info.fps
        10.0
    """

    hw: tuple[int, int]
    fps: float
    frames: int


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a video.

    Attributes:
        number: its place in the video, from 0. Frames that are missing have numbers too.
        time_s: when it is shown, from the container's time stamps; seconds from the start.
        image: (h, w, 3) uint8 BGR, upright.
        path: of its file, if each frame is a file.

    Example:
        >>> Frame(3, 0.12, np.zeros((480, 640, 3), np.uint8)).number
        3
    """

    number: int
    time_s: float
    image: NDArray[np.uint8]
    path: Path | None = None


@dataclass(frozen=True)
class MissingFrames:
    """Frames of a video that cannot be decoded.

    Attributes:
        ranges: (first, last) number of each run of missing frames, ascending.
        frames: how many frames the video has, with these.
        missing_bytes: what is absent at the end of the file. Where the container holds no number of frames, those that
            were there are not in `ranges`.

    Example:
        >>> missing = MissingFrames(((4, 4), (6, 8)), frames=12)
        >>> missing.count, str(missing)
        (4, '4 of 12 frames missing: 4, 6–8')
    """

    ranges: tuple[tuple[int, int], ...]
    frames: int
    missing_bytes: int = 0

    @property
    def count(self) -> int:
        """How many frames are missing."""
        return sum(last - first + 1 for first, last in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges or self.missing_bytes)

    def __str__(self) -> str:
        parts = [str(first) if first == last else f"{first}–{last}" for first, last in self.ranges[:20]]
        more = ", …" if len(self.ranges) > 20 else ""
        numbers = f"{self.count} of {self.frames} frames missing: {', '.join(parts)}{more}" if parts else ""
        cut = f"the file is cut off, {self.missing_bytes} bytes are absent at its end" if self.missing_bytes else ""
        return "; ".join(filter(None, (numbers, cut)))


class FrameSource(Protocol):
    """What frames are read from: a file, a folder, an address, a camera. As a context manager it closes itself.

    Example:
        >>> def count(source: FrameSource) -> int:
        ...     return sum(1 for _ in source.frames())
    """

    missing: MissingFrames
    """What could not be read, known after the last frame."""

    @property
    def name(self) -> str:
        """For messages and records, without passwords."""
        ...

    @property
    def info(self) -> VideoInfo:
        """Size and rate."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether frames come by themselves. Those that nobody takes in time are dropped, and numbers have gaps."""
        ...

    def frames(self) -> Iterator[Frame]:
        """The frames, once, in the order of their numbers; each image is a new array.

        Raises:
            ImageError: there is no frame, or one of another size.
        """
        ...

    def close(self) -> None:
        """Close it. A second call does nothing."""
        ...

    def __enter__(self) -> FrameSource: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def thinned(frames: Iterable[Frame], every: int) -> Iterator[Frame]:
    """Frames whose numbers are at least `every` apart, starting with the first.

    Example:
        >>> image = np.zeros((2, 2, 3), np.uint8)
        >>> [frame.number for frame in thinned([Frame(i, i / 10, image) for i in (0, 1, 2, 4, 5)], every=2)]
        [0, 2, 4]
    """
    following = 0
    for frame in frames:
        if frame.number >= following:
            following = frame.number + every
            yield frame
