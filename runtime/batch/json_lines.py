"""JSON Lines: one line of JSON for each item of a run, written as soon as the item is done."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from ..documents import dump
from ..errors import FastSamError
from ..system.lines import LineFile

STANDARD_OUTPUT = "-"


class JsonLines:
    """One line of JSON for each item, on standard output ("-") or in a file, see `LineFile`.

    Example:
        >>> with JsonLines("-") as lines:
        ...     lines.write({"segments": 3})
        {"segments": 3}
    """

    def __init__(self, target: str | Path) -> None:
        """
        Args:
            target: "-" or the path of a file.

        Raises:
            FastSamError: the file cannot be written, or another process is writing to it.
        """
        self._printed = sys.stdout
        self._file = None if str(target) == STANDARD_OUTPUT else LineFile(Path(target))

    @property
    def path(self) -> Path | None:
        """The file; None for standard output, a device or a pipe, from which nothing can be read back."""
        return None if self._file is None or self._file.is_device else self._file.path

    def start(self, lines: Iterable[bytes]) -> None:
        """Let a file begin with these lines of an earlier run. Raises FastSamError if it cannot be written."""
        if self._file is not None:
            self._file.start(lines)

    def write(self, item: Mapping[str, Any], *, replaces: bool = True) -> None:
        """Add a line; the reader of a pipe gets it at once.

        Args:
            item: plain JSON values.
            replaces: whether it is reason enough to replace the file of an earlier run.

        Raises:
            FastSamError: standard output is closed, or the disk is full.
        """
        line = dump(item) + "\n"
        if self._file is None:
            _print(line, self._printed)
        else:
            self._file.write(line.encode(), replaces=replaces)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _print(line: str, stream: TextIO | None) -> None:
    if stream is None:
        raise FastSamError("standard output is closed, expected an open one for --json -; name a file instead")
    try:
        stream.write(line)
        stream.flush()
    except BrokenPipeError:  # the reader has stopped; the command ends silently
        raise
    except OSError as error:
        raise FastSamError(
            f"standard output: cannot be written ({error.strerror}); make room, or name another file"
        ) from error
