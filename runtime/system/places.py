"""Where the bytes of an output go: links are followed, and devices are distinguished from files."""

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
    """Where the bytes of an output go.

    Attributes:
        path: after following links.
        mode: permission bits of the file that will be replaced; None if there is none.
        direct: it is a device, a pipe or an open descriptor, which is written to and never replaced.

    Example:
        >>> Place(Path("new.json")).mode is None
        True
    """

    path: Path
    mode: int | None = None
    direct: bool = False

    def open(self) -> BinaryIO:
        """Open the device or pipe for writing. The open file behind a descriptor is appended to, not emptied."""
        folders = (Path("/dev/fd"), Path(f"/proc/{os.getpid()}/fd"))
        if _is_descriptor(self.path) and self.path.parent.resolve() in folders:
            return os.fdopen(os.dup(int(self.path.name)), "wb")
        return os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND), "wb")


def place_of(path: Path) -> Place:
    """Find out where the bytes written to `path` go.

    Raises:
        OSError: it is a folder, its links form a loop, or it cannot be examined.

    Example:
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
    """Whether the path names a file that a process has open, as the target of /dev/stdout does."""
    if not path.name.isdecimal():
        return False
    folder = path.parent.resolve()
    return folder == Path("/dev/fd") or (folder.is_relative_to("/proc") and folder.name == "fd")
