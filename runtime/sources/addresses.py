"""Addresses of videos: which ones are opened, and how they are shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from ..errors import ImageError

SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp")
"""Of addresses that are opened. Others, such as file: and concat:, make FFmpeg open whatever they name."""


def is_address(text: str) -> bool:
    """Whether a text has the form of an address.

    Example:
        >>> is_address("rtsp://camera/live"), is_address("clip.mp4")
        (True, False)
    """
    return re.match(r"[A-Za-z][\w+.-]*://", text) is not None


def checked_address(text: str) -> str:
    """The address, if it is one that may be opened.

    Raises:
        ImageError: it has another scheme, no host, or a port that is none.

    Example:
        >>> checked_address("http://camera:8080/video")
        'http://camera:8080/video'
    """
    parts = _split(text)
    if parts is None or parts.scheme.lower() not in SCHEMES or not parts.hostname or not text.isprintable():
        raise ImageError(
            f"{shown_address(text)}: cannot be opened; expected an address such as rtsp://HOST/PATH, with one of "
            f"{', '.join(SCHEMES)}; download other files first"
        )
    return text


def shown_address(text: str) -> str:
    """The address without user, password and the values of its query, which may be secrets.

    Example:
        >>> shown_address("rtsp://admin:secret@camera:554/live?token=abc")
        'rtsp://camera:554/live?…'
    """
    parts = _split(text)
    if parts is None:
        return f"{text.partition('://')[0]}://…"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}{'?…' if parts.query else ''}"


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    return parts
