"""Locks on open files, which end with the processes that have them open, in whatever container."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":  # on Windows an open file can be neither removed nor renamed, which serves as a lock
    import fcntl


def lock_file(handle: int) -> None:
    """Lock an open file until it is closed in this process and its children.

    Raises:
        FileExistsError: another process holds the lock.
        NotImplementedError: the file system has no locks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     lock_file(file.fileno())
    """
    if sys.platform == "win32":
        raise NotImplementedError
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileExistsError(*error.args) from error
    except OSError as error:
        raise NotImplementedError from error


def open_locked(path: Path) -> BinaryIO:
    """Open a file to go on with it, made if it is missing, locked for this process. A link is not followed.

    For a file that stays under its name when the process ends, such as a download that a later one continues.

    Raises:
        FileExistsError: another process holds the lock.
        OSError: it cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, open_locked(Path(folder, "a.part")) as file:
        ...     file.write(b"begun")
        5
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666), "r+b")
    try:
        with suppress(NotImplementedError):
            lock_file(file.fileno())
    except FileExistsError:
        file.close()
        raise
    return file


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file or folder is the one at the path.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     is_at(file.fileno(), Path(file.name)), is_at(file.fileno(), Path("other"))
        (True, False)
    """
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False
