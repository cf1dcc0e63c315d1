"""What a process removes when it ends: a signal can interrupt it just before or while it removes a draft.

A path is announced before it is made, so that there is no moment at which it exists and is not known.
"""

from __future__ import annotations

import atexit
import os
import shutil
from contextlib import suppress
from pathlib import Path

_OF_PROCESSES: dict[Path, int] = {}


def announce(path: Path) -> None:
    """Let the end of this process remove a file or folder, which need not exist yet.

    A forked child that ends does not remove what its parent has announced.

    Example:
        >>> announce(Path("draft"))
        >>> forget(Path("draft"))
    """
    if not _OF_PROCESSES:
        atexit.unregister(remove_remaining)
        atexit.register(remove_remaining)
    _OF_PROCESSES[_absolute(path)] = os.getpid()


def forget(path: Path) -> None:
    """Take back what was announced: it is removed, has its final name, or belongs to another process.

    Example:
        >>> forget(Path("never announced"))
    """
    _OF_PROCESSES.pop(_absolute(path), None)


def remove_remaining() -> None:
    """Remove all that is announced and still there.

    Example:
        >>> remove_remaining()
    """
    for path, process in list(_OF_PROCESSES.items()):
        if process == os.getpid():
            remove(path)
        forget(path)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there and the system lets us. Raises nothing.

    Example:
        >>> remove(Path("never made"))
    """
    with suppress(OSError):  # another error may be on its way, and matters more
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _absolute(path: Path) -> Path:
    """The working folder may be another one at the end. Links are not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100
