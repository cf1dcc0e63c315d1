"""OpenCV's readers of cameras and addresses, with time limits."""

from __future__ import annotations

import cv2

from ..errors import ImageError
from .addresses import shown_address
from .frames import VideoInfo

TIMEOUT_S = 10.0
"""Longest wait for a connection, and for the next frame of an address. Cameras have limits of their drivers."""

_USUAL_FPS = 25.0


def open_camera(number: int) -> cv2.VideoCapture:
    """Open a camera of this machine.

    Raises:
        ImageError: there is none of this number, it is in use, or this user may not read it.

    Example:
        >>> capture = open_camera(0)  # doctest: +SKIP
    """
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise ImageError(
            f"camera {number}: cannot be opened; expected a camera that is connected and not in use; on Linux, "
            "v4l2-ctl --list-devices shows them, and the user must be in the group video"
        )
    return capture


def open_address(address: str, timeout_s: float = TIMEOUT_S) -> cv2.VideoCapture:
    """Connect to an address. A read that takes longer than the time limit fails, too.

    Raises:
        ImageError: no video comes from there in time.

    Example:
        >>> capture = open_address("rtsp://camera/live", timeout_s=5)  # doctest: +SKIP
    """
    limit_ms = round(timeout_s * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms]
    # FFmpeg alone: OpenCV's other readers print the address, with its password.
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, limits)
    if not capture.isOpened():
        raise ImageError(
            f"{shown_address(address)}: no video within {timeout_s:g} s; check address, user and password, and that "
            "the server is reachable"
        )
    return capture


def info_of(capture: cv2.VideoCapture) -> VideoInfo:
    """Size, rate and number of frames as the source says. A rate that is none becomes 25.

    Example:
        >>> info_of(open_camera(0)).hw  # doctest: +SKIP
        (480, 640)
    """
    height, width = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
    fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return VideoInfo((height, width), fps if 1 <= fps <= 240 else _USUAL_FPS, int(frames) if frames > 0 else 0)
