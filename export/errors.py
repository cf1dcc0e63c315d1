"""What can go wrong in an export. Each message says: what, found, expected, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..runtime.errors import FastSamError


class ExportError(FastSamError):
    """A checkpoint cannot be read, or a file made from it did not prove equal to it."""


@contextmanager
def cannot_be_written(target: Path) -> Iterator[None]:
    """What the system refuses inside becomes an ExportError about `target`."""
    try:
        yield
    except OSError as error:
        raise ExportError(f"{target}: cannot be written ({error}); choose another place") from error
