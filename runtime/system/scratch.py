"""Files that are needed for a moment only."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .drafts import draft_folder


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder among the system's temporary ones, for this user alone. It is removed at the end of the block.

    What a killed process has left there is removed by the next one, which `tempfile.TemporaryDirectory` does not do.
    That is also removed by a forked child, when the child ends while the parent is in the block.

    Raises:
        OSError: no folder can be made there.

    Example:
        >>> with scratch_folder() as folder:
        ...     list(folder.iterdir())
        []
    """
    draft = draft_folder(Path(tempfile.gettempdir()), 0o700)
    try:
        yield draft.path
    finally:
        draft.remove()
