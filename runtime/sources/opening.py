"""Whatever frames can be read from, opened by what the user wrote."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ImageError, ParameterError
from .addresses import checked_address, is_address, shown_address
from .captures import TIMEOUT_S, info_of, open_address, open_camera
from .folder import USUAL_FPS, FrameFolder
from .frames import FrameSource
from .isolated import IsolatedVideo
from .live import FIRST_WAIT_S, TRIES, LiveSource
from .remote import RemoteVideo
from .video import Video

_log = logging.getLogger(__name__)


def open_frames(
    source: str | int | Path,
    *,
    fps: float | None = None,
    isolate: bool = False,
    timeout_s: float = TIMEOUT_S,
    tries: int = TRIES,
    first_wait_s: float = FIRST_WAIT_S,
) -> FrameSource:
    """Open a source of frames.

    Args:
        source: a video file; a folder of images; the number of a camera; or an address, rtsp://, http:// or rtmp://. An
            address of a file with a known length is read to its end. All others, and cameras, are live.
        fps: rate of a folder; None: 25.
        isolate: read a file, or those of a folder, in a process of its own with limits, see `IsolatedVideo`.
        timeout_s: longest wait for a connection, and for the next frame of an address.
        tries: how often a live source that is lost is opened again.
        first_wait_s: wait before the first of them; it doubles each time.

    Raises:
        ImageError: it cannot be opened. ParameterError: a rate is given for something else or is out of
            range; or a camera or an address is to be read in a process of its own.

    Example:
        >>> with open_frames("rtsp://camera/live") as source:  # doctest: +SKIP
        ...     for frame in source.frames():
        ...         segments = model.segment(frame.image, color="BGR")
    """
    text = str(source)
    is_folder = not (is_camera(text) or is_address(text)) and Path(text).is_dir()
    if fps is not None and not (is_folder and 0 < fps <= 1000):
        raise ParameterError(f"fps is {fps:g} for {shown(text)}; expected a number up to 1000, for a folder of images")
    if isolate and (is_camera(text) or is_address(text)):
        raise ParameterError(f"{shown(text)}: isolate is for files; leave it out, or save the video to a file first")
    if is_folder:
        return FrameFolder(Path(text), fps or USUAL_FPS, isolate=isolate)
    if is_camera(text):
        number = int(text)
        return LiveSource(f"camera {number}", lambda: open_camera(number), tries=tries, first_wait_s=first_wait_s)
    if not is_address(text):
        return IsolatedVideo(Path(text)) if isolate else Video(Path(text))
    address = checked_address(text)
    name = shown_address(address)
    _log.info("%s: reading from the network", name)
    capture = open_address(address, timeout_s)
    info = info_of(capture)
    if info.frames and min(info.hw) > 0 and not address.lower().startswith("rtsp"):
        return RemoteVideo(name, capture)
    return LiveSource(
        name, lambda: open_address(address, timeout_s), tries=tries, first_wait_s=first_wait_s, capture=capture
    )


def is_camera(text: str) -> bool:
    """Whether it is the number of a camera. A file or folder of that name is written as ./0.

    Example:
        >>> is_camera("0"), is_camera("./0")
        (True, False)
    """
    return text.isascii() and text.isdecimal() and len(text) < 4


def shown(text: str) -> str:
    """What the user wrote, for messages: addresses without passwords.

    Example:
        >>> shown("clip.mp4"), shown("http://me:secret@host/x")
        ('clip.mp4', 'http://host/x')
    """
    return shown_address(text) if is_address(text) else text


def stem_of(text: str) -> str:
    """A name for files that belong to a source.

    Example:
        >>> stem_of("clips/a.mp4"), stem_of("0"), stem_of("rtsp://me:secret@camera:554/"), stem_of("http://host/b.mjpg")
        ('a', 'camera0', 'camera', 'b')
    """
    if is_camera(text):
        return f"camera{int(text)}"
    if not is_address(text):
        return Path(text).resolve().name if Path(text).is_dir() else Path(text).stem
    parts = urlsplit(checked_address(text))
    return Path(parts.path).stem or parts.hostname or "video"


def input_path(text: str) -> Path | None:
    """The file or folder that a source is; None for cameras and addresses.

    Raises:
        ImageError: it is an address that is not opened.

    Example:
        >>> input_path("clip.mp4").name, input_path("rtsp://camera/live")
        ('clip.mp4', None)
    """
    if is_address(text):
        checked_address(text)
        return None
    if not text:
        raise ImageError("the source is an empty text; expected a file, a folder, an address or a camera's number")
    return None if is_camera(text) else Path(text)
