"""What the application keeps of each user: an image, its segments, and the prompts with their history."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from ..segments import Segments
from ..system.fork import ForkLock
from .prompt_state import NOTHING_ASKED, PromptState

MAX_UNDO = 100
"""Steps that can be taken back."""


@dataclass(frozen=True, eq=False)
class OpenImage:
    """An image that was segmented.

    Attributes:
        number: of this image; no other image of the application has it.
        name: of the file, as the user called it.
        pixels: (h, w, 3) uint8 RGB.
        everything: all its segments.
        network_ms: how long the network and the stages around it took.

    Example:
        >>> OpenImage(1, "cat.jpg", np.zeros((4, 5, 3), np.uint8), Segments.empty((4, 5)), 210.0).name
        'cat.jpg'
    """

    number: int
    name: str
    pixels: NDArray[np.uint8]
    everything: Segments
    network_ms: float


@dataclass(eq=False)
class Session:
    """One user: the open image, and what was asked of it. Hold `lock` while you look at several attributes.

    Example:
        >>> session = Session()
        >>> session.ask(PromptState("points"))
        >>> session.undo(), session.asked.mode
        (True, 'everything')
    """

    image: OpenImage | None = None
    asked: PromptState = NOTHING_ASKED
    earlier: list[PromptState] = field(default_factory=list)
    lock: ForkLock = field(default_factory=lambda: ForkLock(threading.RLock))

    def show(self, image: OpenImage) -> None:
        """Another image, of which nothing was asked yet."""
        self.image, self.asked, self.earlier = image, NOTHING_ASKED, []

    def ask(self, state: PromptState) -> None:
        """Ask for something else; `undo` takes it back."""
        self.earlier = [*self.earlier[1 - MAX_UNDO :], self.asked]
        self.asked = state

    def undo(self) -> bool:
        """Take the last step back. False if there is none."""
        if not self.earlier:
            return False
        self.asked = self.earlier.pop()
        return True


class Sessions:
    """The users of the application, of whom only some are kept: the last ones, and each for a limited time.

    Safe to use from many threads.

    Example:
        >>> sessions = Sessions(most=1)
        >>> first = sessions.of("a")
        >>> sessions.of("a") is first, sessions.of("b") is first, sessions.of("a") is first
        (True, False, False)
    """

    def __init__(self, most: int = 32, seconds: float = 1800.0, clock: Callable[[], float] = monotonic) -> None:
        """
        Args:
            most: sessions that are kept. One more, and the one that was used least recently is dropped.
            seconds: that a session is kept after its last use.
            clock: gives seconds.

        Raises:
            ParameterError: a limit is not above 0.
        """
        for name, value in (("sessions", most), ("seconds", seconds)):
            if not value > 0:
                raise ParameterError(f"{name} is {value}, expected a number above 0")
        self._most, self._seconds, self._clock = most, seconds, clock
        self._sessions: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._lock = ForkLock()

    def of(self, key: str) -> Session:
        """The session of a user, a new one if there is none (any more)."""
        now = self._clock()
        with self._lock:
            self._drop_idle(now)
            session, _ = self._sessions.pop(key, (Session(), now))
            self._sessions[key] = session, now
            while len(self._sessions) > self._most:
                self._sessions.popitem(last=False)
        return session

    def drop(self, key: str) -> None:
        """Forget a user, who has closed the page."""
        with self._lock:
            self._sessions.pop(key, None)

    def __len__(self) -> int:
        return len(self._sessions)

    def _drop_idle(self, now: float) -> None:
        idle = [key for key, (_, used) in self._sessions.items() if now - used > self._seconds]
        for key in idle:
            del self._sessions[key]
