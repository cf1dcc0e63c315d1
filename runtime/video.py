"""Videos: frame by frame through `FastSAM.segment_stream`, to a video with overlays and to one line of JSON a frame."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import FastSamError, ImageError
from .files import JsonLines
from .pipeline import FastSAM
from .render import draw_prompts, draw_segments
from .segment_files import as_json
from .segments import Prompt

_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself.

    Attributes:
        hw: (h, w) of a frame, pixels.
        fps: frames in a second.
        frames: how many there are, as the container counts them: an estimate.
    """

    hw: tuple[int, int]
    fps: float
    frames: int


class Video:
    """A video file that is open for reading: iterate over its frames, once. A context manager that closes it."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ImageError: it is missing, or no video that this OpenCV reads.
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
        """(h, w, 3) uint8 BGR frames, each an array of its own.

        Raises:
            ImageError: not even one frame can be decoded.
        """
        count = 0
        while True:
            there, frame = self._capture.read()
            if not there:
                break
            count += 1
            yield frame
        if count == 0:
            raise ImageError(f"{self._path}: no frame can be decoded; the file is damaged or cut off")

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class VideoWriter:
    """A video file that appears whole at the end, or not at all."""

    def __init__(self, path: Path, info: VideoInfo) -> None:
        """
        Args:
            path: `.mp4`, `.mov` (MPEG-4) or `.avi` (Motion JPEG).
            info: of the frames to come.

        Raises:
            FastSamError: another ending, or the file cannot be written there.
        """
        codec = _CODECS.get(path.suffix.lower())
        if codec is None:
            raise FastSamError(f"{path}: ending {path.suffix!r}, expected one of {', '.join(_CODECS)}")
        self._path = path
        self._draft = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        self._hw = info.hw
        size = info.hw[1], info.hw[0]
        self._writer = cv2.VideoWriter(str(self._draft), cv2.VideoWriter.fourcc(*codec), info.fps, size)
        if not self._writer.isOpened():
            self._draft.unlink(missing_ok=True)
            raise FastSamError(
                f"{path}: cannot be written, or OpenCV {cv2.__version__} has no {codec}; choose another folder, or .avi"
            )

    def write(self, image: NDArray[np.uint8]) -> None:
        """Add a frame, (h, w, 3) uint8 RGB."""
        self._writer.write(image[..., ::-1])

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._writer.release()
        if kind is None:
            self._draft.replace(self._path)
        self._draft.unlink(missing_ok=True)


def segment_video(
    model: FastSAM,
    video: Video,
    path: Path,
    prompt: Prompt | Sequence[Prompt] | None,
    writer: VideoWriter | None,
    json_lines: JsonLines | None,
    *,
    contours: bool = True,
) -> Iterator[int]:
    """Segment each frame: the number of segments of each, as it is done. Frames are read ahead of the network.

    Args:
        video: open; it is read to its end.
        path: of the video, for the lines of JSON.
        prompt: for every frame; None for everything.
        writer: gets the frames with overlays.
        json_lines: gets a line for each frame, `Segments.to_json` with frame (from 0) and time_s.
        contours: outline the segments in the overlays.

    Raises:
        ImageError: no frame can be decoded. PromptError: the prompt does not fit the frames.
    """
    for item in model.segment_stream(video, prompt, color="BGR", keep_images=writer is not None):
        found = item.result()
        if writer is not None and item.image is not None:
            writer.write(draw_prompts(draw_segments(item.image, found, contours=contours), prompt))
        if json_lines is not None:
            plain = as_json(found, path, model)
            json_lines.write({"frame": item.index, "time_s": round(item.index / video.info.fps, 6), **plain})
        yield len(found)
