"""Files in this host's memory, through which another process reads arrays, and how to tell that their owner is dead."""

from __future__ import annotations

import mmap
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .locks import is_at, lock_file

FOLDER = Path("/dev/shm")
"""Where Linux keeps shared memory: a key "/NAME" is the file NAME in it."""

_NAME = re.compile(r"fastsam_client_\d+_[0-9a-f]{32}")
_TRIES = 100


class SharedRegion:
    """A file in memory that this process has open, mapped and locked.

    The lock ends with the process, however that ends, and is seen from every container that shares the memory. (A
    process number is not: each container may have its own, and numbers are used again.)

    Attributes:
        name: of the region, for the server; it has the number of the process, for people.
        key: for the server.
        size: bytes.
        is_registered: the server knows it, or may know it.

    Example:
        >>> region = SharedRegion(100)  # doctest: +SKIP
        >>> region.write(np.zeros((5, 5), np.float32))  # doctest: +SKIP
        >>> region.destroy()  # doctest: +SKIP
    """

    def __init__(self, size: int) -> None:
        """
        Raises:
            OSError: there is no shared memory here, or not so much.
        """
        self.size = size
        self.is_registered = False
        self.name, self._handle = _new_file(size)
        try:
            self._map: mmap.mmap = mmap.mmap(self._handle, size)
        except BaseException:
            self.destroy()
            raise

    @property
    def key(self) -> str:
        return f"/{self.name}"

    def write(self, values: NDArray[Any]) -> None:
        """Copy an array to the beginning."""
        np.copyto(np.ndarray(values.shape, values.dtype, buffer=self._map), values)

    def destroy(self) -> None:
        """Remove it. A server that still reads it keeps the memory until it no longer does."""
        (FOLDER / self.name).unlink(missing_ok=True)
        self.abandon()

    def abandon(self) -> None:
        """Let go of the file, which stays. In a forked child: so that the lock is the parent's alone."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
        with suppress(AttributeError, BufferError):  # half made, or a thread of the parent was writing
            self._map.close()


def abandoned_regions() -> list[str]:
    """Names of the regions whose processes are dead.

    Example:
        >>> abandoned_regions()  # doctest: +SKIP
        ['fastsam_client_4711_0f6c2a0b1d9e48a7b3c5d6e7f8091a2b']
    """
    with suppress(OSError):
        return [path.name for path in FOLDER.glob("fastsam_client_*") if is_region(path.name) and is_abandoned(path)]
    return []


def is_region(name: str) -> bool:
    """Whether it is the name of a region of this package.

    Example:
        >>> is_region(f"fastsam_client_4711_{'a' * 32}"), is_region("psm_4711")
        (True, False)
    """
    return _NAME.fullmatch(name) is not None


def is_abandoned(path: Path) -> bool:
    """Whether nobody holds the lock of a region's file. False where that cannot be told.

    Example:
        >>> is_abandoned(FOLDER / "no_such_region")
        False
    """
    return _with_lock(path, lambda: None)


def remove_abandoned(name: str) -> None:
    """Remove a region's file, unless somebody holds its lock.

    Example:
        >>> remove_abandoned("no_such_region")
    """
    path = FOLDER / name
    _with_lock(path, path.unlink)


def _new_file(size: int) -> tuple[str, int]:
    """Name and descriptor of a locked file, all of whose memory is there: a file that grows as it is written would
    end the process (SIGBUS) when there is no more.
    """
    for _ in range(_TRIES):
        name = f"fastsam_client_{os.getpid()}_{secrets.token_hex(16)}"
        path = FOLDER / name
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with suppress(NotImplementedError):
                lock_file(handle)
            os.posix_fallocate(handle, 0, size)
            if is_at(handle, path):
                return name, handle
        except FileExistsError:  # taken for abandoned before it had its lock
            path.unlink(missing_ok=True)
        except BaseException:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise
        os.close(handle)
    raise FileExistsError(f"{FOLDER}: {_TRIES} names were taken")


def _with_lock(path: Path, work: Callable[[], object]) -> bool:
    """Do something while holding a file's lock, if nobody else holds it; whether it was done."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # it is gone, or another user's
        return False
    try:
        lock_file(handle)
        work()
    except (OSError, NotImplementedError):
        return False
    finally:
        os.close(handle)
    return True
