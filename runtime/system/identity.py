"""Which file a path means."""

from __future__ import annotations

from pathlib import Path


def real_path(path: Path) -> Path:
    """The same for two names of one file, links followed; the file need not exist.

    >>> real_path(Path("a/../photo.jpg")) == real_path(Path("photo.jpg"))
    True
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links; reading it will tell
        return path.absolute()
