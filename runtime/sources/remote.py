"""Video files on a server: read from start to end, without a download."""

from __future__ import annotations

from collections.abc import Iterator

import cv2

from ..errors import ImageError
from .captures import info_of
from .frames import Frame, MissingFrames

_ESTIMATE_S = 0.5
"""The number of frames of a container may be an estimate. What is missing by less than this is not reported."""


class RemoteVideo:
    """A video of known length behind an address. Iterate over its frames once; as a context manager it closes itself.

    Example:
        >>> with RemoteVideo("http://host/clip.mp4", open_address("http://host/clip.mp4")) as video:  # doctest: +SKIP
        ...     print(video.info.frames)
        250
    """

    is_live = False

    def __init__(self, name: str, capture: cv2.VideoCapture) -> None:
        """
        Args:
            name: for messages, without a password.
            capture: open; it is closed with this object.
        """
        self.name, self._capture = name, capture
        self.info = info_of(capture)
        self.missing = MissingFrames((), self.info.frames)

    def frames(self) -> Iterator[Frame]:
        """All frames.

        Raises:
            ImageError: there is none.
        """
        count, last_s = 0, -1.0
        while True:
            read, image = self._capture.read()
            if not read:
                break
            time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            last_s = time_s if time_s > last_s else last_s + 1 / self.info.fps
            yield Frame(count, last_s, image)
            count += 1
        if not count:
            raise ImageError(f"{self.name}: no frame can be decoded; the file is damaged, or the connection was lost")
        frames = self.info.frames
        if frames - count > max(1, _ESTIMATE_S * self.info.fps):
            self.missing = MissingFrames(((count, frames - 1),), frames)

    def close(self) -> None:
        """Close the connection."""
        self._capture.release()

    def __enter__(self) -> RemoteVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
