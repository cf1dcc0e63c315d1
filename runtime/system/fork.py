"""Forked children: what a process has open stays its own, and a child opens its own.

A forked child is a copy of its parent with one thread. Thread pools have no threads there, a lock may be held by a
thread that does not exist, sockets and shared memory belong to the parent. So a child neither uses nor destroys what
the parent had open; and a fork waits for what must not be copied half done (`ForkGate`).
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Inherited(Protocol):
    """What has to know that it was copied by a fork.

    Example:
        >>> class Counter:
        ...     count = 5
        ...     def after_fork(self) -> None:
        ...         self.count = 0
        >>> counter = Counter()
        >>> tell_of_forks(counter)
    """

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there."""
        ...


class PerProcess(Generic[T]):
    """A value that each process opens for itself: a session of a library, a connection.

    In a forked child the parent's value is never used and never destroyed: its destructor would wait for threads that
    are not there. The first use opens another one.

    Example:
        >>> import os
        >>> opened_by = PerProcess(os.getpid(), reopen=os.getpid)
        >>> opened_by.get() == os.getpid()
        True
        >>> opened_by.take() == os.getpid(), opened_by.get()
        (True, None)
    """

    def __init__(self, value: T, reopen: Callable[[], T], abandon: Callable[[T], None] = lambda _: None) -> None:
        """
        Args:
            value: of this process.
            reopen: opens that of a forked child, on first use there.
            abandon: lets go of file descriptors that a forked child has inherited, without a word to anybody else.
        """
        self._value: T | None = value
        self._reopen, self._abandon = reopen, abandon
        self._is_inherited = False
        self._lock = threading.Lock()
        skip_exit_handlers()
        tell_of_forks(self)

    def get(self) -> T | None:
        """The value of this process; None once it was taken.

        Raises:
            What `reopen` raises, in a forked child.
        """
        value = self._value
        if value is not None:
            return value
        with self._lock:
            if self._is_inherited:
                self._value, self._is_inherited = self._reopen(), False
            return self._value

    def take(self) -> T | None:
        """The value, which the caller closes: `get` is None from now on. None if this process has none open."""
        with self._lock:
            value, self._value, self._is_inherited = self._value, None, False
            return value

    def after_fork(self) -> None:
        """See `Inherited.after_fork`."""
        self._lock = threading.Lock()
        if self._value is None:
            return
        keep_for_ever(self._value)
        value, self._value, self._is_inherited = self._value, None, True
        self._abandon(value)


class ForkLock:
    """A lock that is free in a forked child, whatever thread of the parent held it.

    Example:
        >>> lock = ForkLock(threading.RLock)
        >>> with lock, lock:
        ...     pass
    """

    def __init__(self, kind: Callable[[], Any] = threading.Lock) -> None:
        """
        Args:
            kind: `threading.Lock` or `threading.RLock`.
        """
        self._kind = kind
        self._lock = kind()
        tell_of_forks(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        """See `Inherited.after_fork`."""
        self._lock = self._kind()


class cached_property(functools.cached_property[T]):  # noqa: N801 - used as functools' own
    """As `functools.cached_property`, whose lock a thread of the parent may hold up to Python 3.11.

    Example:
        >>> class Number:
        ...     @cached_property
        ...     def value(self) -> int:
        ...         return 7
        >>> Number().value
        7
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        super().__init__(compute)
        tell_of_forks(self)

    def after_fork(self) -> None:
        """See `Inherited.after_fork`."""
        self.lock = threading.RLock()  # one for all instances of the class


class ForkGate:
    """`with gate:` keeps a fork that another thread wants waiting until the block ends.

    Libraries need it that hold locks while they work and reset them in no child: without it the child would wait for
    ever for a thread that it does not have. A fork does not wait for its own thread.

    Attributes:
        is_broken: in a forked child: a thread of the parent was in a block, because the fork had waited long enough.

    Example:
        >>> gate = ForkGate()
        >>> with gate:
        ...     product = sum(a * b for a, b in [(1, 2), (3, 4)])
        >>> product, gate.is_broken
        (14, False)
    """

    def __init__(self, patience_s: float = 60.0, settle_s: float = 0.0) -> None:
        """
        Args:
            patience_s: longest wait of a fork. Other threads wait meanwhile where they come to a block.
            settle_s: a fork waits this long after the last block, for a library whose threads take locks until they
                have gone to sleep.
        """
        self.is_broken = False
        self._settle_s, self._left_at = settle_s, -settle_s
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._inside = 0
        self._is_forking = False
        self._thread = threading.local()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
            )

    def __enter__(self) -> None:
        depth = getattr(self._thread, "depth", 0)
        if not depth:
            with self._changed:
                self._changed.wait_for(lambda: not self._is_forking)  # or a fork would never find a gap
                self._inside += 1
        self._thread.depth = depth + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.depth -= 1
        if not self._thread.depth:
            with self._changed:
                self._inside -= 1
                self._left_at = time.monotonic()
                self._changed.notify_all()

    @property
    def _inside_by_this_thread(self) -> int:
        return int(getattr(self._thread, "depth", 0) > 0)

    def _before_fork(self) -> None:
        self._changed.acquire()
        self._changed.wait_for(lambda: not self._is_forking)
        self._is_forking = True
        self._changed.wait_for(lambda: self._inside == self._inside_by_this_thread, self._patience_s)
        time.sleep(max(self._left_at + self._settle_s - time.monotonic(), 0))

    def _after_fork(self) -> None:
        if not self._is_forking:  # this gate was made while another thread forked: there was no `_before_fork`
            return
        self._is_forking = False
        self._changed.notify_all()
        self._changed.release()

    def _after_fork_in_child(self) -> None:
        self.is_broken = self.is_broken or self._inside != self._inside_by_this_thread
        self._inside = self._inside_by_this_thread
        self._after_fork()


unforked = ForkGate()
"""For NumPy's matrix products: OpenBLAS holds locks meanwhile, which the child's first product would wait for."""


def tell_of_forks(inherited: Inherited) -> None:
    """Have `inherited.after_fork` called in each forked child, for as long as the object lives.

    Example:
        >>> lock = ForkLock()  # tells of itself
        >>> tell_of_forks(lock)  # twice is once
    """
    _process.inherited.add(inherited)


def keep_for_ever(value: object) -> None:
    """Let this never be destroyed, not even when the interpreter ends.

    Example:
        >>> keep_for_ever(object())
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def skip_exit_handlers() -> None:
    """Let forked children end without the exit handlers that C libraries have registered until the fork.

    They wait for threads that a forked child does not have: ONNX Runtime from 1.29 on hangs there if it was imported
    before the fork, OpenVINO hangs or aborts. What Python does at its end (`atexit`, flushing) is not affected.

    Example:
        >>> skip_exit_handlers()  # after the library was imported
    """
    _process.skip_exit_handlers = _exit_skipper()


class _Process:
    """What this process has to do after a fork."""

    def __init__(self) -> None:
        self.inherited: weakref.WeakSet[Inherited] = weakref.WeakSet()
        self.skip_exit_handlers: Callable[[], None] = lambda: None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.after_fork)

    def after_fork(self) -> None:
        """In the child."""
        self.skip_exit_handlers()
        for inherited in list(self.inherited):
            inherited.after_fork()


@functools.cache
def _exit_skipper() -> Callable[[], None]:
    """What makes a process end without the exit handlers that C libraries have registered so far.

    Handlers run in reverse order, so `_exit` comes before all of those; it gets the exit code from `on_exit`, which
    only glibc has. What Python does at its end comes earlier.
    """
    libc: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(libc, "on_exit"):
        return lambda: None
    end, flush = (ctypes.cast(function, ctypes.c_void_p) for function in (libc._exit, libc.fflush))
    on_exit, at_exit = libc.on_exit, libc["__cxa_atexit"]

    def skip() -> None:
        on_exit(end, None)
        at_exit(flush, None, None)  # what C libraries wrote with stdio

    return skip


_process = _Process()
