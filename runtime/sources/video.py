"""Videos as a source of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video, as given in its file.

    Attributes:
        hw: (h, w) of a frame, pixels.
        fps: frames per second.
        frames: number of frames according to the container; an estimate.

    Example:
        >>> info = VideoInfo((1080, 1920), fps=25.0, frames=250)
        >>> info.frames / info.fps
        10.0
    """

    hw: tuple[int, int]
    fps: float
    frames: int


class Video:
    """A video file that is open for reading. Iterate over its frames once. As a context manager it closes itself.

    Example:
        >>> with Video(Path("clip.mp4")) as video:  # doctest: +SKIP
        ...     for frame_bgr in video:
        ...         print(frame_bgr.shape)
    """

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of the file.

        Raises:
            ImageError: the file is missing, or OpenCV cannot read a video from it.
        """
        if not path.is_file():
            raise ImageError(f"{path}: no such file; check the path")
        self._path = path
        self._capture = cv2.VideoCapture(str(path))
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not self._capture.isOpened() or width < 1 or height < 1:
            self._capture.release()
            raise ImageError(
                f"{path}: OpenCV {cv2.__version__} reads no video from it; expected a file such as MP4 or AVI in a "
                "format that its FFmpeg knows; convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        frames = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)
        self.info = VideoInfo((height, width), fps if 0 < fps < 1000 else 25.0, frames)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Frames as (h, w, 3) uint8 BGR, a new array each.

        Raises:
            ImageError: no frame can be decoded, or the size of a frame is not `info.hw`.
        """
        count = 0
        while True:
            decoded, frame = self._capture.read()
            if not decoded:
                break
            self._check_size(count, frame)
            count += 1
            yield frame
        if count == 0:
            raise ImageError(f"{self._path}: no frame can be decoded; the file is damaged or cut off")

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
