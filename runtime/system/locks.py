"""Locks on open files, which end with the processes that have them open, in whatever container."""

from __future__ import annotations

import os
import sys
from pathlib import Path

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
