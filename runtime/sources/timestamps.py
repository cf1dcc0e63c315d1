"""When each frame of a video is shown, from the time stamps of its container."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_FAILURES = 10_000
"""So many packets or frames that fail one after the other end a video, whatever number its header gives."""

_STEADY = 0.25
"""Time stamps may be this part of a frame off a constant rate."""


@dataclass(frozen=True, eq=False)
class Timestamps:
    """Times of the frames of a video.

    Attributes:
        times_s: (frames,) float64, ascending, seconds from the start. Those of damaged packets are interpolated.
        fps: average rate.
        is_steady: frame number n is shown at n / fps.

    Example:
        >>> times = timestamps_of(np.array([0.0, 0.1, np.nan, 0.3]), fps=10.0)
        >>> times.is_steady, times.number_at(0.3)
        (True, 3)
    """

    times_s: NDArray[np.float64]
    fps: float
    is_steady: bool

    def number_at(self, time_s: float) -> int:
        """The number, from 0, of the frame that is shown at a time."""
        if self.is_steady or not len(self.times_s):
            return max(round(time_s * self.fps), 0)
        return int(np.abs(self.times_s - time_s).argmin())


def timestamps_of(packets_s: NDArray[np.float64], fps: float) -> Timestamps:
    """Times of frames from those of packets.

    Args:
        packets_s: (packets,) in the order of the file, NaN for a damaged one; see `read_packets`.
        fps: average rate, as the container says.

    Example:
        >>> timestamps_of(np.array([0.0, 1.0, np.nan, 5.0]), fps=0.6).times_s.tolist()
        [0.0, 1.0, 3.0, 5.0]
    """
    valid = ~np.isnan(packets_s)
    positions = np.arange(len(packets_s))
    places = packets_s[valid] * fps
    numbers = np.rint(places)
    is_steady = bool((np.abs(places - numbers) < _STEADY).all()) and len(np.unique(numbers)) == len(numbers)
    if is_steady:
        return Timestamps(positions / fps, fps, is_steady=True)
    # Packets of frames that refer to later ones come out of their order: hence the running maximum.
    times_s = np.interp(positions, positions[valid], np.maximum.accumulate(packets_s[valid]))
    times_s[valid] = packets_s[valid]
    return Timestamps(np.sort(times_s), fps, is_steady=False)


def read_packets(path: Path, count: int) -> NDArray[np.float64]:
    """Time stamps of all packets of a video, without decoding them: as fast as the disk.

    Args:
        path: of the video.
        count: number of frames as its header says; beyond it, the first failure is the end.

    Returns:
        (packets,) float64, seconds from the start, in the order of the file, NaN for a packet that is damaged. Empty
        if OpenCV reads this format without FFmpeg, which has no packets.

    Example:
        >>> read_packets(Path("clip.mp4"), count=3)  # doctest: +SKIP
        array([0.  , 0.08, 0.04])
    """
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.set(cv2.CAP_PROP_FORMAT, -1):
            return np.empty(0)
        times_s: list[float] = []
        failures = 0
        while failures < MOST_FAILURES:
            if capture.grab():
                failures = 0
                times_s.append(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            elif len(times_s) < count:
                failures += 1
                times_s.append(float("nan"))
            else:
                break
        # Failures at the end are packets that are not there.
        return np.array(times_s[: len(times_s) - failures])
    finally:
        capture.release()
