"""Who may wait, and for how long: limits on requests at once, and the time that each may take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from ..system.fork import ForkLock
from .refusals import BusyError, LateError


class Deadline:
    """The time that a request may take, and whether its client still waits.

    Example:
        >>> deadline = Deadline(60)
        >>> 59 < deadline.left_s() <= 60
        True
        >>> deadline.abandon()
        >>> deadline.is_over
        True
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = monotonic() + seconds
        self._is_abandoned = False

    def abandon(self) -> None:
        """The client has gone: nothing more is done for this request."""
        self._is_abandoned = True

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._is_abandoned or monotonic() >= self._ends

    def left_s(self) -> float:
        """The seconds that are left, above 0.

        Raises:
            LateError: none are left, or the client has gone.
        """
        if self._is_abandoned:
            raise LateError("the client has closed the connection; nothing more is done for its request")
        left = self._ends - monotonic()
        if left <= 0:
            raise self.late()
        return left

    def late(self) -> LateError:
        """The error of a request whose time is over."""
        return LateError(
            f"no answer within {self._seconds:g} s; the server is too busy: send fewer requests at once, or start it "
            "with a higher --timeout"
        )


class Admission:
    """At most so many requests are inside at once; all others are refused at once.

    Example:
        >>> admission = Admission(1)
        >>> with admission.entered():
        ...     admission.inside
        1
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._lock = ForkLock()

    @property
    def inside(self) -> int:
        """Requests that are inside now."""
        return self._inside

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside during a block.

        Raises:
            BusyError: as many as allowed are inside.
        """
        with self._lock:
            if self._inside >= self._most:
                raise BusyError(
                    f"{self._inside} requests are waiting, the server takes {self._most} at once; "
                    "send it again after the seconds of Retry-After"
                )
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1


class Slots:
    """Places for work that takes memory or a processor; whoever finds none free waits, as long as its time lasts.

    Example:
        >>> slots = Slots(2)
        >>> with slots.taken(Deadline(1)):
        ...     pass
    """

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def taken(self, deadline: Deadline) -> Iterator[None]:
        """Hold a place during a block.

        Raises:
            LateError: none became free in time.
        """
        if not self._free.acquire(timeout=deadline.left_s()):
            raise deadline.late()
        try:
            yield
        finally:
            self._free.release()
