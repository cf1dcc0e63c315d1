"""Files that are needed for a moment only."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder among the system's temporary ones, which is removed at the end of the block.

    `tempfile.TemporaryDirectory` is removed by a forked child as well, when that ends while the parent is in the block.

    Example:
        >>> with scratch_folder() as folder:
        ...     list(folder.iterdir())
        []
    """
    folder = Path(tempfile.mkdtemp(prefix="fastsam-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
