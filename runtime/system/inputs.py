"""Files that are read as a whole."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MAX_TEXT_FILE_BYTES = 1 << 28
"""Of a file of settings or metadata. The largest, a tokenizer, has some 10 MB."""


def read_file(path: Path, most_bytes: int = MAX_TEXT_FILE_BYTES) -> bytes:
    """The content of a regular file. Anything else may have no end, or be waited for without one.

    Args:
        path: of the file.
        most_bytes: largest file that is read.

    Raises:
        OSError: it is missing, no regular file, or larger; `strerror` says so.

    Example:
        >>> try:
        ...     read_file(Path("/dev/null"))
        ... except OSError as error:
        ...     print(error.strerror)
        is no regular file
    """
    with open(path, "rb", opener=_opener) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        if status.st_size > most_bytes:
            raise OSError(errno.EFBIG, f"has {status.st_size:,} bytes, the limit is {most_bytes:,}", str(path))
        content: bytes = file.read()
        return content


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would be waited for
