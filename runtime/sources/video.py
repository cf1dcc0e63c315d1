"""Videos as a source of frames."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..limits import MAX_PIXELS
from .containers import Container, read_container
from .frames import Frame, MissingFrames, VideoInfo
from .timestamps import MOST_FAILURES, Timestamps, read_packets, timestamps_of

_DECODER_DELAY = 16
_HELD_FRAMES = 4
"""After damage, a decoder may give frames out of order. So many are held to put them back: memory stays bounded."""
_MOST_ABSENT = 1_000_000
"""Frames at the end that a header announces and the file does not hold: 11 hours at 25 frames per second. Beyond, the
header is damaged, and nothing is reported for each of its frames."""


class Video:
    """A video file that is open for reading. Iterate over its frames once. As a context manager it closes itself.

    A damaged frame is left out and the next ones are read, up to the number of frames of the container; `missing` then
    says which. Frames are turned upright as the file says (phones).

    Example:
        >>> with Video(Path("clip.mp4")) as video:  # doctest: +SKIP
        ...     for frame in video.frames():
        ...         print(frame.number, frame.time_s, frame.image.shape)
    """

    missing: MissingFrames
    """What could not be decoded, known after the last frame."""

    is_live = False

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of the file.

        Raises:
            ImageError: the file is missing, OpenCV cannot read a video from it, or its frames have too many pixels.
        """
        if not path.is_file():
            raise ImageError(f"{path}: no such file; check the path")
        self._path, self.name = path, str(path)
        self._capture = cv2.VideoCapture(str(path))
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not self._capture.isOpened() or width < 1 or height < 1:
            self._capture.release()
            raise ImageError(
                f"{path}: OpenCV {cv2.__version__} reads no video from it; expected a file such as MP4 or AVI in a "
                "format that its FFmpeg knows; convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
            )
        if width * height > MAX_PIXELS:
            self._capture.release()
            raise ImageError(
                f"{path}: its frames are {width}×{height}, more than the limit of {MAX_PIXELS:,} pixels; make them "
                "smaller: ffmpeg -i IN -vf scale=1920:-2 OUT.mp4"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        frames = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.info = VideoInfo((height, width), fps if 0 < fps < 1000 else 25.0, frames)
        self.missing = MissingFrames((), frames)
        self._is_damaged = False

    @cached_property
    def timestamps(self) -> Timestamps:
        """When each frame is shown. The first use reads through the file, without decoding it."""
        return timestamps_of(read_packets(self._path, self.info.frames), self.info.fps)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Images of `frames`."""
        return (frame.image for frame in self.frames())

    def frames(self) -> Iterator[Frame]:
        """Frames that can be decoded, in the order of their numbers; each image is a new array.

        Raises:
            ImageError: no frame can be decoded, or the size of a frame is not `info.hw`.
        """
        ranges: list[tuple[int, int]] = []
        following, last_s = 0, 0.0
        for frame in self._in_order():
            if frame.number < following:  # a second one, or one that is too late
                continue
            if frame.number > following:
                ranges.append((following, frame.number - 1))
            following = frame.number + 1
            last_s = frame.time_s
            yield frame
        if following == 0:
            raise ImageError(f"{self._path}: no frame can be decoded; the file is damaged or cut off")
        container = read_container(self._path)
        frames = self._count(container, following, last_s)
        if frames > following:
            ranges.append((following, frames - 1))
        self.missing = MissingFrames(tuple(ranges), frames, container.missing_bytes)

    def _count(self, container: Container, following: int, last_s: float) -> int:
        """How many frames the video has, if the last one that was decoded is number `following` - 1."""
        if container.is_counted:
            return max(following, min(self.info.frames, following + _MOST_ABSENT))
        if container.is_trimmed or not len(self.timestamps.times_s):
            return following
        # Not the number of packets: those of VP8 may hold frames that are not shown.
        at = self.timestamps.number_at
        return following + max(at(float(self.timestamps.times_s[-1])) - at(last_s), 0)

    def _in_order(self) -> Iterator[Frame]:
        held: list[tuple[int, int, Frame]] = []
        for order, frame in enumerate(self._decoded()):
            heappush(held, (frame.number, order, frame))
            while len(held) > (_HELD_FRAMES if self._is_damaged else 0):
                yield heappop(held)[2]
        while held:
            yield heappop(held)[2]

    def _decoded(self) -> Iterator[Frame]:
        """Frames as the decoder gives them."""
        attempts, failures, previous = 0, 0, None
        most = max(self.info.frames, len(self.timestamps.times_s)) + _DECODER_DELAY
        while failures < MOST_FAILURES and (attempts < most or not failures):
            decoded, image = self._read(attempts)
            attempts += 1
            if not decoded:  # damaged, or the end: OpenCV does not say which
                failures += 1
                continue
            self._is_damaged |= failures > 0
            failures = 0
            number = previous.number + 1 if previous is not None else 0
            self._check_size(number, image)
            previous = self._timed(image, number, attempts - 1, previous.time_s if previous is not None else None)
            yield previous

    def _read(self, attempt: int) -> tuple[bool, NDArray[Any]]:
        try:
            return self._capture.read()
        except (cv2.error, MemoryError) as error:
            raise ImageError(
                f"{self._path}: frame {attempt} cannot be decoded ({' '.join(str(error).split())[:200]}); convert it: "
                "ffmpeg -i IN -c:v libx264 OUT.mp4"
            ) from error

    def _timed(self, image: NDArray[np.uint8], number: int, attempt: int, previous_s: float | None) -> Frame:
        """The frame with its time; after damage its number comes from that, before it is `number`."""
        stamps = self.timestamps
        time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        end_s = stamps.times_s[-1] + 1 / stamps.fps if len(stamps.times_s) else float("inf")
        if self._is_damaged:
            # 0 stands for "no time stamp", and damaged ones may be anything.
            time_s = time_s if 0 < time_s <= end_s else attempt / stamps.fps
            return Frame(stamps.number_at(time_s), time_s, image)
        if previous_s is not None and not previous_s < time_s <= end_s:
            time_s = previous_s + 1 / stamps.fps
        return Frame(number, time_s, image)

    def _check_size(self, number: int, frame: NDArray[np.uint8]) -> None:
        """With FFmpeg, OpenCV scales a frame of another size; its other readers return it as it is."""
        (height, width), (h, w) = frame.shape[:2], self.info.hw
        if (height, width) != (h, w):
            raise ImageError(
                f"{self._path}: frame {number} is {width}×{height}, expected {w}×{h} as the video says; "
                f"make them one size: ffmpeg -i IN -vf scale={w}:{h} OUT.mp4"
            )

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
