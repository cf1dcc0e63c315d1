"""Where the bytes of an output end: links followed, and devices told from files."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MOST_LINKS = 40  # as many as Linux follows


@dataclass(frozen=True)
class Place:
    """Where the bytes go.

    Attributes:
        path: with the links at its end followed.
        mode: permission bits of the file that is replaced; None for a new one.
        direct: it is no file that could be replaced: written as it is.
    """

    path: Path
    mode: int | None = None
    direct: bool = False

    def open(self) -> BinaryIO:
        """The device or pipe for writing. An open file that stands behind a descriptor is added to, not emptied."""
        own = (Path("/dev/fd"), Path(f"/proc/{os.getpid()}/fd"))
        if _is_descriptor(self.path) and self.path.parent.resolve() in own:
            return os.fdopen(os.dup(int(self.path.name)), "wb")
        return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND), "wb")


def place_of(path: Path) -> Place:
    """Where what is written to `path` ends.

    Raises:
        OSError: it is a folder, leads in a circle, or cannot be looked at.

    >>> place_of(Path("/dev/null")).direct
    True
    """
    for _ in range(_MOST_LINKS):
        if not path.is_symlink() or _is_descriptor(path):
            break
        path = path.parent / path.readlink()
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        return Place(path)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, expected the name of a file")
    return Place(path, stat.S_IMODE(kind) & 0o777, direct=not stat.S_ISREG(kind) or _is_descriptor(path))


def _is_descriptor(path: Path) -> bool:
    """Whether this is a name of a file that a process has open: /dev/stdout leads to such a one."""
    if not path.name.isdecimal():
        return False
    folder = path.parent.resolve()
    return folder == Path("/dev/fd") or (folder.is_relative_to("/proc") and folder.name == "fd")
