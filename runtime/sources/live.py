"""Cameras and streams: frames come by themselves, and those that nobody takes in time are dropped."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Condition, Event, Thread

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import FastSamError, ImageError
from .captures import TIMEOUT_S, info_of
from .frames import Frame, MissingFrames

TRIES = 5
"""How often a connection is tried again, each time after a wait twice as long."""

FIRST_WAIT_S = 0.5
_POLL_S = 0.2

_log = logging.getLogger(__name__)


class LiveSource:
    """A camera or a stream that is being read by a thread of its own, which keeps the newest frame only.

    Whoever is slower than the source gets fewer frames, and no older ones. When the connection is lost, it is opened
    again, a few times.

    Attributes:
        dropped: how many frames came and were not taken.

    Example:
        >>> with LiveSource("camera 0", lambda: open_camera(0)) as source:  # doctest: +SKIP
        ...     for frame in source.frames():
        ...         print(frame.number, f"{frame.time_s:.2f} s")
    """

    is_live = True

    def __init__(
        self,
        name: str,
        connect: Callable[[], cv2.VideoCapture],
        *,
        tries: int = TRIES,
        first_wait_s: float = FIRST_WAIT_S,
        capture: cv2.VideoCapture | None = None,
    ) -> None:
        """
        Args:
            name: for messages, without a password.
            connect: opens the source, at first and again after a loss; raises ImageError.
            tries: how often it is opened again after a loss, until a frame comes.
            first_wait_s: wait before the first of them; it doubles each time.
            capture: the source, if it is open already.

        Raises:
            ImageError: it cannot be opened, or no frame comes.
        """
        self.name = name
        self._connect, self._tries, self._first_wait_s = connect, tries, first_wait_s
        self._capture = connect() if capture is None else capture
        read, image = self._capture.read()
        if not read:
            self._capture.release()
            raise ImageError(f"{name}: it is open, and no frame comes; check that it sends video")
        self.info = replace(info_of(self._capture), hw=image.shape[:2], frames=0)
        self.missing = MissingFrames((), 0)
        self.dropped = 0
        self._process = os.getpid()
        self._newest: Frame | None = None
        self._count = 0
        self._error: FastSamError | None = None
        self._fresh, self._stopped, self._is_over = Condition(), Event(), False
        self._keep(image)
        self._reader = Thread(target=self._read_all, name="fastsam-live", daemon=True)
        self._reader.start()

    def frames(self) -> Iterator[Frame]:
        """The newest frame, each time one is asked for; waits for it. Numbers count what came, times start at 0.

        Ends after `stop`.

        Raises:
            ImageError: the connection is lost and cannot be opened again, or the size of the frames has changed.
            FastSamError: the source was opened before this process was forked.
        """
        if os.getpid() != self._process:
            raise FastSamError(
                f"{self.name}: was opened before this process was forked, and nothing reads it here; expected one of "
                "this process; open it in the worker itself"
            )
        first: Frame | None = None
        while (frame := self._next()) is not None:
            first = first or frame
            yield Frame(frame.number - first.number, frame.time_s - first.time_s, frame.image)
        if self._error is not None and not self._stopped.is_set():
            raise self._error

    def stop(self) -> None:
        """Let `frames` end; a signal handler may call it."""
        self._stopped.set()

    def close(self) -> None:
        """End the thread and close the source. Waits for a read that is under way."""
        self._stopped.set()
        self._reader.join(TIMEOUT_S + 1)

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _next(self) -> Frame | None:
        """The newest frame, which nobody has taken yet; None at the end."""
        with self._fresh:
            while self._newest is None and not self._is_over and not self._stopped.is_set():
                self._fresh.wait(_POLL_S)  # a signal handler sets the event and wakes nobody
            frame, self._newest = self._newest, None
        return None if self._stopped.is_set() else frame

    def _read_all(self) -> None:
        """The thread."""
        try:
            while not self._stopped.is_set():
                read, image = self._capture.read()
                if not read and (image := self._reconnected()) is None:
                    break
                self._check_size(image)
                self._keep(image)
        except FastSamError as error:
            self._error = error
        except cv2.error as error:
            self._error = ImageError(f"{self.name}: {' '.join(str(error).split())}; check the source")
        finally:
            self._capture.release()
            with self._fresh:
                self._is_over = True
                self._fresh.notify_all()

    def _keep(self, image: NDArray[np.uint8]) -> None:
        with self._fresh:
            self.dropped += self._newest is not None
            self._newest = Frame(self._count, time.monotonic(), image)
            self._count += 1
            self._fresh.notify_all()

    def _reconnected(self) -> NDArray[np.uint8] | None:
        """The first frame of a new connection; None after `stop`.

        Raises:
            ImageError: all tries have failed.
        """
        wait_s = self._first_wait_s
        for number in range(1, self._tries + 1):
            self._capture.release()
            _log.warning("%s: connection lost; try %d of %d in %g s", self.name, number, self._tries, wait_s)
            if self._stopped.wait(wait_s):
                return None
            wait_s *= 2
            try:
                self._capture = self._connect()
            except ImageError:
                continue
            read, image = self._capture.read()
            if read:
                _log.warning("%s: connected again", self.name)
                regained: NDArray[np.uint8] = image
                return regained
        raise ImageError(
            f"{self.name}: connection lost after {self._count} frames, and not regained in {self._tries} tries; "
            "check the source and start again"
        )

    def _check_size(self, image: NDArray[np.uint8]) -> None:
        (height, width), (h, w) = image.shape[:2], self.info.hw
        if (height, width) != (h, w):
            raise ImageError(
                f"{self.name}: a frame is {width}×{height}, expected {w}×{h} as before; its settings were changed: "
                "start again"
            )
