"""The sessions of one file on a processor: one whose threads share a run, and one for runs that have a thread each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...errors import ModelError
from ...system.fork import ForkLock, PerProcess, tell_of_forks
from ..telemetry import without_telemetry

with without_telemetry():
    import onnxruntime as ort

MOST_SINGLE = 4
"""Threads up to which runs at once have a thread each. Every run has memory of its own."""

WORTH_OPENING = 8
"""Runs with all threads taken before the second session is opened, which takes as long as about as many runs gain."""


class Sessions:
    """Lends each run a session. Many threads may run at once.

    A run that has all threads finishes first; but operators end at different times on each thread, and some work on
    one alone. As many runs at once as threads, each on one, leave no such gaps. Both sessions give the same bits:
    ONNX Runtime divides an operator's results among threads, not its sums.

    Example:
        >>> with sessions.lend() as (session, options):  # doctest: +SKIP
        ...     arrays = session.run(None, feed, options)
    """

    def __init__(
        self,
        shared: ort.InferenceSession,
        threads: int,
        reopen: Callable[[], ort.InferenceSession],
        open_single: Callable[[], ort.InferenceSession] | None,
    ) -> None:
        """
        Args:
            shared: the session whose runs share `threads` threads.
            reopen: opens it again in a forked child.
            open_single: opens the session of one thread, in any process; None: there is none.
        """
        self._shared: PerProcess[ort.InferenceSession] = PerProcess(shared, reopen)
        self._single: PerProcess[ort.InferenceSession] | None = None
        self._open_single = open_single if 1 < threads <= MOST_SINGLE else None
        self._threads = threads
        self._lock = ForkLock()
        self._running = self._full_runs = 0
        tell_of_forks(self)

    @property
    def runs_at_once(self) -> int:
        """Number of runs at once that gain from each other.

        With more threads than MOST_SINGLE, two runs fill each other's gaps in one session (docs/adr/0009).
        """
        if self._open_single is not None:
            return self._threads
        return min(self._threads, 2)

    @contextmanager
    def lend(self) -> Iterator[tuple[ort.InferenceSession | None, ort.RunOptions | None]]:
        """The session for a run, None after `close`, and the options to run it with.

        Raises:
            ModelError, DeviceError: in a forked child, the file cannot be opened again.
        """
        with self._lock:
            self._running += 1
            is_full = self._open_single is not None and self._running >= self._threads
            self._full_runs += is_full
            number = self._full_runs
        try:
            if is_full and number == WORTH_OPENING:
                self._open()
            single = self._single
            if is_full and single is not None:
                yield single.get(), None
            else:
                yield self._shared.get(), _giving_back() if is_full and number >= WORTH_OPENING - 2 else None
        finally:
            with self._lock:
                self._running = max(self._running - 1, 0)  # a fork may have come in between

    def close(self) -> None:
        """Free the sessions."""
        self._shared.take()
        self._open_single = None
        single, self._single = self._single, None
        if single is not None:
            single.take()

    def after_fork(self) -> None:
        """See `Inherited.after_fork`: the parent's runs are not this process's."""
        self._running = 0

    def _open(self) -> None:
        open_single = self._open_single
        if open_single is None:
            return
        try:
            self._single = PerProcess(open_single(), open_single)
        except ModelError:  # the file is gone or another one: the shared session goes on as it is
            self._open_single = None


def _giving_back() -> ort.RunOptions:
    """Options of the shared session's last runs before the other one takes over: its memory for results is freed."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
