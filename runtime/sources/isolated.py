"""Videos from strangers, read in a process of their own, whose time and memory are limited."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from ..errors import ImageError
from ..isolation.limits import Limits, limit_memory
from ..isolation.process import LimitedProcess
from ..isolation.questions import Questions, ends_after
from .frames import Frame, MissingFrames, VideoInfo
from .timestamps import Timestamps
from .video import Video

_log = logging.getLogger(__name__)

_VERB, _ADVICE = ("reading", "reads"), "convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
_BYTES_PER_SECOND = 10_000_000
"""Allowed for looking at all packets of a file: a tenth of what a slow disk gives."""


class IsolatedVideo:
    """Reads a video as `Video` does, in a child process with limits. The child ends with this object.

    The next frame is decoded while the one before it is used. The child starts in 0.3 s. Linux keeps to both limits,
    other systems to the one of time.

    Example:
        >>> with IsolatedVideo(Path("clip.mp4"), seconds=5) as video:    # doctest: +SKIP
        ...     for frame in video.frames():
        ...         print(frame.number, frame.time_s, frame.image.shape)
    """

    is_live = False

    def __init__(self, path: Path, *, seconds: float = 20.0, memory_bytes: int = 2**31) -> None:
        """
        Args:
            path: of the file.
            seconds: that opening it may take, and then each frame. To look at all of the file, more for larger ones.
            memory_bytes: that all of this may take on top of what the child has at its start.

        Raises:
            ImageError: see `Video`; also where a limit is exceeded, here or later.
            ParameterError: a limit is not above 0.
        """
        self._path, self.name, self._limits = path, str(path), Limits(seconds, memory_bytes)
        self._child = LimitedProcess(__name__, [str(path), seconds, self._limits.memory_bytes])
        info = self._asked({"give": "info"}, seconds)
        self.info = VideoInfo(tuple(info["hw"]), info["fps"], info["frames"])
        self.missing = MissingFrames((), self.info.frames)

    @cached_property
    def timestamps(self) -> Timestamps:
        """When each frame is shown. Ask before the first frame is read."""
        seconds = self._limits.seconds + self._path.stat().st_size / _BYTES_PER_SECOND
        with self._within():
            self._child.ask({"give": "timestamps"})
            deadline = monotonic() + seconds
            answer = self._answer(deadline)
            times_s = np.frombuffer(self._child.read(8 * answer["count"], deadline), np.float64)
            return Timestamps(times_s, answer["fps"], answer["is_steady"])

    def frames(self) -> Iterator[Frame]:
        """See `Video.frames`. They can be read once.

        Raises:
            ImageError: see `Video.frames`; or a limit is exceeded.
        """
        _ = self.timestamps  # which takes longer than a frame
        with self._within():
            self._child.ask({"give": "frames"})
        h, w = self.info.hw
        while True:
            with self._within():
                deadline = monotonic() + self._limits.seconds
                answer = self._answer(deadline)
                is_last = "ranges" in answer
                content = self._child.read(16 * answer["ranges"] if is_last else h * w * 3, deadline)
            if is_last:
                break
            yield Frame(answer["number"], answer["time_s"], np.frombuffer(content, np.uint8).reshape(h, w, 3))
        self.missing = MissingFrames(_ranges(content), answer["frames"], answer["missing_bytes"])

    def _asked(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        with self._within():
            self._child.ask(question)
            return self._answer(monotonic() + seconds)

    def _within(self) -> AbstractContextManager[None]:
        return self._child.within(self._limits, self.name, _VERB, _ADVICE, ImageError)

    def _answer(self, deadline: float) -> dict[str, Any]:
        answer = self._child.answer(deadline)
        for level, message in answer["log"]:
            _log.log(level, "%s", message)
        if "error" in answer:
            raise ImageError(answer["error"])
        return answer

    def close(self) -> None:
        """End the child."""
        self._child.stop()

    def __enter__(self) -> IsolatedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ranges(content: bytearray) -> tuple[tuple[int, int], ...]:
    """Of `MissingFrames`, from the bytes that `_give_frames` sends."""
    return tuple((first, last) for first, last in np.frombuffer(content, np.int64).reshape(-1, 2).tolist())


def serve(path: str, seconds: float, memory_bytes: int) -> None:
    """What the child does: it opens the video, and gives what it is asked for.

    Args:
        path: of the file.
        seconds, memory_bytes: see `IsolatedVideo`.

    Example:
        >>> serve("clip.mp4", seconds=20, memory_bytes=1 << 30)  # doctest: +SKIP
    """
    questions = Questions()
    limit_memory(memory_bytes)
    video: Video | None = None
    for question, _ in questions:
        with questions.answered_errors(path, _ADVICE):
            if video is None:
                with ends_after(seconds):
                    video = Video(Path(path))
            _GIVERS[question["give"]](video, questions, seconds)


def _give_info(video: Video, questions: Questions, _: float) -> None:
    info = video.info
    questions.answer({"hw": info.hw, "fps": info.fps, "frames": info.frames})


def _give_timestamps(video: Video, questions: Questions, seconds: float) -> None:
    stamps = video.timestamps
    header = {"count": len(stamps.times_s), "fps": stamps.fps, "is_steady": stamps.is_steady}
    questions.answer(header, np.ascontiguousarray(stamps.times_s, np.float64).data.cast("B"))


def _give_frames(video: Video, questions: Questions, seconds: float) -> None:
    frames = video.frames()
    while True:
        with ends_after(seconds):
            frame = next(frames, None)
        if frame is None:
            break
        image = np.ascontiguousarray(frame.image)
        questions.answer({"number": frame.number, "time_s": frame.time_s}, image.data.cast("B"))
    missing = video.missing
    header = {"ranges": len(missing.ranges), "frames": missing.frames, "missing_bytes": missing.missing_bytes}
    questions.answer(header, np.array(missing.ranges, np.int64).tobytes())


_GIVERS = {"info": _give_info, "timestamps": _give_timestamps, "frames": _give_frames}
