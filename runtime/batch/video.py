"""Segment every frame of a video, and write a video with overlays and one line of JSON for each frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ImageError
from ..pipeline import FastSAM
from ..render import draw_prompts, draw_segments
from ..segmenters.stream import StreamItem
from ..segments import Prompt, Segments
from ..sources.frames import Frame, FrameSource, VideoInfo, thinned
from ..system.atomic import draft_of
from ..tiling.grid import Tiles
from ..tracking.following import start_following
from .frame_rate import mpeg4_rate
from .json_lines import JsonLines
from .records import describe_model, error_json, segments_json

_CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".avi": "MJPG"}
_LONGEST_GAP_S = 600.0
_MOST_REPEATS = 100
"""Of each frame, on average, beyond ten minutes in all. Time stamps are a few bytes that may ask for any number."""

_LIVE_FRAMES = 2
"""Of a live source in progress: one is drawn and written while the network works on the other."""


class VideoWriter:
    """A video file with a constant rate, that appears whole at the end or not at all.

    A frame is repeated until the time of the next one, so that a variable rate and missing frames leave the video in
    step. A gap of more than ten minutes is not filled, nor are gaps that together repeat each frame a hundred times.

    Example:
        >>> info = VideoInfo((480, 640), fps=25.0, frames=2)
        >>> with VideoWriter(Path("black.avi"), info) as writer:  # doctest: +SKIP
        ...     for _ in range(info.frames):
        ...         writer.write(np.zeros((480, 640, 3), np.uint8))
    """

    def __init__(self, path: Path, info: VideoInfo) -> None:
        """
        Args:
            path: `.mp4`, `.mov` (MPEG-4) or `.avi` (Motion JPEG). Its folder is made if it is missing.
            info: size and rate of the frames that will be written. MPEG-4 cannot store every rate: it gets the next
                higher one that it can.

        Raises:
            FastSamError: another ending, or the file cannot be written. At the end of the block: the disk is full.
        """
        codec = _CODECS.get(path.suffix.lower())
        if codec is None:
            raise FastSamError(f"{path}: ending {path.suffix!r}, expected one of {', '.join(_CODECS)}")
        self._path = path
        self._hw, self._count, self._skipped, self._repeated = info.hw, 0, 0, 0
        self._fps = mpeg4_rate(info.fps) if codec == "mp4v" else info.fps
        self._previous: NDArray[np.uint8] | None = None
        size = info.hw[1], info.hw[0]
        with ExitStack() as stack:
            self._draft = stack.enter_context(draft_of(path, parents=True))
            self._writer = cv2.VideoWriter(str(self._draft), cv2.VideoWriter.fourcc(*codec), self._fps, size)
            if not self._writer.isOpened():
                raise FastSamError(
                    f"{path}: cannot be written, or OpenCV {cv2.__version__} has no {codec}; choose another folder, "
                    "or .avi"
                )
            self._kept = stack.pop_all()

    def write(self, image: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Add a frame.

        Args:
            image: (h, w, 3) uint8 RGB.
            time_s: when it is shown, seconds from the start; None for right after the frame before it.

        Raises:
            FastSamError: its size is not that of `info`; OpenCV would leave it out.
        """
        (height, width), (h, w) = image.shape[:2], self._hw
        if (height, width) != (h, w):
            raise FastSamError(
                f"{self._path}: frame {self._count} is {width}×{height}, expected {w}×{h}: all frames of a video have "
                "one size; scale it"
            )
        image_bgr = np.ascontiguousarray(image[..., ::-1])
        if time_s is not None:
            self._fill_until(time_s, image_bgr)
        self._writer.write(image_bgr)
        self._count += 1
        self._previous = image_bgr

    def _fill_until(self, time_s: float, image_bgr: NDArray[np.uint8]) -> None:
        """Repeat the frame before, at the start the first one, until a time."""
        repeats = round(time_s * self._fps) - self._skipped - self._count
        longest = _LONGEST_GAP_S * self._fps
        if repeats > min(longest, longest + _MOST_REPEATS * (self._count - self._repeated) - self._repeated):
            self._skipped += repeats
            return
        self._repeated += max(repeats, 0)
        for _ in range(repeats):
            self._writer.write(image_bgr if self._previous is None else self._previous)
            self._count += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.release()
        if kind is not None:
            self._kept.__exit__(kind, error, trace)
            return
        with self._kept:
            self._check()

    def _check(self) -> None:
        """Open the draft again, as OpenCV does not report a full disk. Raises FastSamError if it is not whole."""
        capture = cv2.VideoCapture(str(self._draft))
        try:
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
            capture.set(cv2.CAP_PROP_POS_FRAMES, self._count - 1)
            if self._count and not (count == self._count and capture.read()[0]):
                raise FastSamError(
                    f"{self._path}: {self._count} frames were written and {count} can be read back, is the disk full? "
                    "Nothing is left of it; make room, or choose another folder"
                )
        finally:
            capture.release()


def segment_video(
    model: FastSAM,
    video: FrameSource,
    path: Path | str,
    prompt: Prompt | Sequence[Prompt] | None,
    writer: VideoWriter | None,
    json_lines: JsonLines | None,
    *,
    contours: bool = True,
    every: int = 1,
    most: int | None = None,
    track: bool = False,
    tiles: Tiles | None = None,
) -> Iterator[int]:
    """Segment each frame. Frames are read while the network works on earlier ones.

    Of a live source, two frames are in progress at once: more would be older ones.

    Args:
        model: open.
        video: open; it is read to its end. Afterwards `video.missing` says what could not be decoded.
        path: of the video, for the lines of JSON; for an address or a camera its name.
        prompt: for every frame; None for everything.
        writer: gets the frames with overlays; None for no video.
        json_lines: gets a line for each frame, `segments_json` with frame (its number, from 0) and time_s (of the
            container's time stamps, seconds). A frame that cannot be decoded, segmented or written has an error with
            its kind and message. None for no JSON.
        contours: outline the segments in the overlays.
        every: leave out frames until the number is this much higher than that of the one before. Then, and for live
            sources, there are no lines of frames that are missing.
        most: end after this many frames; None: at the end of the video.
        track: follow the objects, see `FastSAM.track`; the prompt is then for the first frame.
        tiles: how large frames are cut; None: they are not.

    Yields:
        The number of segments of each frame, as soon as it is written.

    Raises:
        ImageError: no frame can be decoded.
        PromptError: the prompt does not fit the frames.
        FastSamError: a frame or a line cannot be written. The lines of the frames before it are.

    Example:
        >>> with FastSAM() as model, Video(Path("clip.mp4")) as video:  # doctest: +SKIP
        ...     sum(segment_video(model, video, Path("clip.mp4"), None, None, None))
        1204
    """
    under_way: deque[Frame] = deque()

    def images() -> Iterator[NDArray[np.uint8]]:
        for frame in islice(thinned(video.frames(), every), most):
            under_way.append(frame)
            yield frame.image

    lines = _FrameLines(path, model, json_lines, has_gaps=video.is_live or every > 1)
    thresholds, follower = start_following(prompt, None, model.thresholds) if track else (model.thresholds, None)
    stream = model.segment_stream(
        images(),
        None if track else prompt,
        color="BGR",
        thresholds=thresholds,
        keep_images=writer is not None,
        copy_images=False,
        prefetch=_LIVE_FRAMES if video.is_live else None,
        tiles=tiles,
    )
    for item in lines.reported(stream):
        frame, segments, error = under_way.popleft(), item.segments, item.error
        if follower is not None and segments is not None:
            segments = follower.update(segments, frame.number)
        if writer is not None and segments is not None and item.image is not None:
            color_by = "track" if track else "rank"
            drawn = draw_segments(item.image, segments, contours=contours, color_by=color_by, ids=track)
            if not track or frame.number == 0:
                drawn = draw_prompts(drawn, prompt)
            try:
                writer.write(drawn, frame.time_s)
            except FastSamError as refused:
                error = refused
        lines.write(frame, segments, error)
        if segments is None or error is not None:
            raise error or AssertionError("a stream item has segments or an error")
        yield len(segments)
    if most is None:
        lines.write_missing(video.missing.frames)


class _FrameLines:
    """The lines of JSON of a video, one for each frame, in the order of their numbers."""

    def __init__(self, path: Path | str, model: FastSAM, json_lines: JsonLines | None, *, has_gaps: bool) -> None:
        self._path, self._model, self._lines = path, describe_model(model), json_lines
        self._next, self._has_gaps = 0, has_gaps

    def write(self, frame: Frame, segments: Segments | None, error: FastSamError | None) -> None:
        """Write the line of a frame, and before it those of missing frames."""
        self.write_missing(frame.number)
        plain = {} if segments is None else segments_json(segments, frame.path or self._path, self._model)
        self._write({"time_s": round(frame.time_s, 6), **plain}, error)

    def write_missing(self, until: int) -> None:
        """Write a line for each frame before this number that has none, unless frames are left out on purpose."""
        if self._has_gaps:
            self._next = max(self._next, until)
        while self._next < until:
            self._write({}, ImageError(f"{self._path}: frame {self._next} cannot be decoded"))

    def reported(self, items: Iterable[StreamItem]) -> Iterator[StreamItem]:
        """The items; an error of reading the next frame has a line before it is raised."""
        try:
            yield from items
        except FastSamError as error:
            self._write({}, error)
            raise

    def _write(self, plain: Mapping[str, Any], error: FastSamError | None) -> None:
        line = {"frame": self._next, "image": {"path": str(self._path)}, **plain}
        if error is not None:
            line["error"] = error_json(error)
        self._next += 1
        if self._lines is not None:
            self._lines.write(line, replaces="segments" in plain)
