"""CUDA in this process: loading PyCUDA, its errors in our words, who frees what, and what a fork does to it all.

PyCUDA keeps two rules that its users feel. An object of the driver can be destroyed only while its context is current
(from another thread it is leaked with a warning); and CUDA does not survive `fork`. `Owned` keeps the first rule for
every object of this package; the second one is an error that says so.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Protocol, TypeVar

from ...errors import DeviceError, MissingDependencyError, pip_install
from ...system.fork import keep_for_ever, skip_exit_handlers, tell_of_forks

T = TypeVar("T")

FORKED = (
    "CUDA was in use before this process was forked, and the driver does not work in such a child; "
    "open the model in the worker itself, after the fork, or start workers with the method 'spawn'"
)


class Context(Protocol):
    """What owns objects of the driver: a `Device`.

    Example:
        >>> with context.active():  # doctest: +SKIP
        ...     pycuda.mem_get_info()
    """

    def active(self) -> AbstractContextManager[None]: ...

    def abandon(self) -> None:
        """In a forked child: make PyCUDA forget that this is current."""
        ...


class OpenDevice(Context, Protocol):
    """What memory, streams and modules need of the `Device` that they are on.

    Example:
        >>> device.call("asking for its free memory", device.pycuda.mem_get_info)  # doctest: +SKIP
    """

    pycuda: Any
    memory_total: int
    """Bytes."""

    def memory_free(self) -> int: ...

    def call(self, what: str, function: Callable[..., T], *arguments: Any, **named: Any) -> T: ...


class _Thread(threading.local):
    """What this thread is in the middle of."""

    def __init__(self) -> None:
        self.active: list[Context] = []
        """Devices whose context this thread has made current, innermost last."""
        self.postponed: list[tuple[Context, list[Any]]] | None = None
        """While this thread records a graph: what it would have freed. Freeing would break the recording."""


class _Process:
    """What is known of CUDA in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.driver: Any = None
        self.forked = False
        self.cells: dict[int, list[Any]] = {}
        """Every object of PyCUDA that is alive."""

    def after_fork(self) -> None:
        """In the child: leave what is the parent's alone.

        The destructors of PyCUDA would call the driver and, where that fails, end the process: so they must not run.
        """
        self.lock = threading.Lock()  # another thread of the parent may have held it
        if self.driver is None:
            return
        self.forked = True
        for cell in self.cells.values():
            for held in cell:
                keep_for_ever(held)
        for context in reversed(thread.active):
            context.abandon()


thread = _Thread()
_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.after_fork)


def load() -> Any:
    """PyCUDA's module `pycuda.driver`, with CUDA initialised.

    Raises:
        MissingDependencyError: PyCUDA is not installed.
        DeviceError: there is no driver, it has no device, or this is the forked child of a process that used CUDA.

    Example:
        >>> load().Device.count()  # doctest: +SKIP
        1
    """
    require_own_process()
    with _process.lock:
        if _process.driver is None:
            _process.driver = _loaded()
        return _process.driver


def _loaded() -> Any:
    try:
        driver = import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"device 'cuda' needs PyCUDA: {error}; run: {pip_install('cuda')} "
            "(PyCUDA is compiled then: it needs g++ and the headers of CUDA)"
        ) from error
    except ImportError as error:  # also where the driver is older than the headers that PyCUDA was built with
        raise DeviceError(
            f"device 'cuda': PyCUDA cannot load NVIDIA's driver ({error}); expected libcuda.so.1 of a driver "
            "that is as new as PyCUDA's CUDA; check with nvidia-smi, install the driver, or pass device='cpu'"
        ) from error
    try:
        driver.init()
    except driver.Error as error:
        # Also another library may have used CUDA before the fork: then only the driver knows.
        advice = f"perhaps {FORKED}; or " if "initialization error" in str(error) else ""
        raise DeviceError(
            f"device 'cuda': NVIDIA's driver cannot start ({error}); expected a driver with at least one GPU; "
            f"{advice}check nvidia-smi and CUDA_VISIBLE_DEVICES, or pass device='cpu'"
        ) from error
    return driver


def lock() -> threading.Lock:
    """Held while something is made that a process has once. (A function: a fork replaces the lock.)

    Example:
        >>> with lock():  # doctest: +SKIP
        ...     devices[0] = make()
    """
    return _process.lock


def require_own_process() -> None:
    """Raises DeviceError in a child that was forked after CUDA was initialised.

    Example:
        >>> require_own_process()  # before any call of the driver  # doctest: +SKIP
    """
    if _process.forked:
        raise DeviceError(f"device 'cuda': {FORKED}")


def is_forked() -> bool:
    """Whether this is such a child.

    Example:
        >>> is_forked()  # doctest: +SKIP
        False
    """
    return _process.forked


def translated(device: object, what: str, error: Exception) -> DeviceError:
    """The driver's error as a DeviceError with advice.

    Args:
        device: for the message, as `str`.
        what: what was being done, a noun.

    Example:
        >>> raise translated("cuda:0", "launching masks_f32", error) from error  # doctest: +SKIP
    """
    text = str(error)
    if type(error).__name__ == "LaunchError" or "illegal" in text:
        advice = (
            "a kernel went wrong and the process has lost its context: start it again; "
            "CUDA_LAUNCH_BLOCKING=1 or compute-sanitizer finds the kernel"
        )
    elif "captur" in text:
        advice = "this is not possible while a graph is recorded; do it before, or after"
    else:
        advice = "check the device with nvidia-smi and `fastsam doctor`"
    return DeviceError(f"{device}: {what} failed: {text}; {advice}")


class UsedByOne:
    """What holds objects of other libraries on CUDA, such as TensorRT's, and is used by one thread at a time.

    A forked child never destroys it, as those libraries would call the driver, which does not work there. So `close` of
    a subclass does nothing where `is_forked()`.

    Attributes:
        lock: held by who uses it. It is free in a forked child, whatever thread of the parent held it.

    Example:
        >>> class Network(UsedByOne):
        ...     def run(self) -> str:
        ...         with self.lock:
        ...             return "an answer"
        >>> Network().run()
        'an answer'
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        skip_exit_handlers()
        tell_of_forks(self)

    def after_fork(self) -> None:
        """See `Inherited.after_fork`."""
        self.lock = threading.Lock()
        keep_for_ever(self)


class Owned:
    """One object of the driver, freed exactly once.

    That is done by `free`, when nothing refers to this any more, or when the interpreter ends; in any thread and any
    order. Messages call it by its `str`.

    Example:
        >>> class Event(Owned):  # doctest: +SKIP
        ...     def __init__(self, device):
        ...         super().__init__(device, device.call("making an event", device.pycuda.Event))
    """

    def __init__(self, context: Context, *held: Any) -> None:
        """
        Args:
            held: objects of PyCUDA. Nobody else may refer to them: letting go of them here must destroy them.
        """
        self._cell: list[Any] = list(held)
        _process.cells[id(self._cell)] = self._cell
        self._let_go = weakref.finalize(self, _let_go, context, self._cell)

    @property
    def is_free(self) -> bool:
        """Whether it was freed."""
        return not self._let_go.alive

    def free(self) -> None:
        """Free it now. Freeing it again does nothing."""
        self._let_go()

    def held(self) -> Any:
        """The first object.

        Raises:
            DeviceError: it was freed, or this is a forked child.
        """
        require_own_process()
        try:
            return self._cell[0]
        except IndexError:
            raise DeviceError(f"{self}: it was freed; expected one in use; make a new one") from None


def _let_go(context: Context, cell: list[Any]) -> None:
    if _process.forked:
        return
    if thread.postponed is not None:
        thread.postponed.append((context, cell))
        return
    with context.active():
        _process.cells.pop(id(cell), None)
        cell.clear()


def without_frees(work: Callable[[], None]) -> None:
    """Do `work`; whatever this thread frees meanwhile, also by garbage collection, is freed afterwards.

    Example:
        >>> without_frees(record)  # doctest: +SKIP
    """
    if thread.postponed is not None:
        return work()
    postponed: list[tuple[Context, list[Any]]] = []
    thread.postponed = postponed
    try:
        work()
    finally:
        thread.postponed = None
        for context, cell in postponed:
            _let_go(context, cell)
