"""Files of lines that grow during a long run. Whatever ends the run, its lines stay, and each of them is whole.

A line is written with one call. If that is interrupted by a signal, the rest of the line follows before the exception
goes on; if the disk is full, the part that was written is cut off again. Only a kill (SIGKILL) or a power cut can leave
a part of a line at the end of the file: `whole_lines` leaves it out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import FastSamError
from .atomic import os_errors_as, scratch_beside, stream_to
from .locks import lock_file
from .places import place_of


class LineFile:
    """A file that gets line after line.

    A file from an earlier run stays until `start`, or until the first line that replaces it. The file is locked while
    it is open, so that no second run writes to it. A device or a pipe gets each line at once.

    Attributes:
        path: as it was given.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "rows.txt")
        ...     with LineFile(path) as file:
        ...         file.write(b"a row\\n")
        ...         path.read_text()
        'a row\\n'
    """

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of the file.

        Raises:
            FastSamError: no file can be written there, or another process is writing to this one.
        """
        self.path = path
        self._handle, self._size = -1, 0
        self._held: list[bytes] = []
        self._device: BinaryIO | None = None
        self._earlier = ExitStack()
        with os_errors_as(FastSamError, path):
            self._place = place_of(path)
            if self._place.direct:
                self._device = self._place.open()
        if self._device is None:
            with scratch_beside(path, ""):
                pass  # a file can be made there
            self._replaces_nothing = not self._lock_earlier()

    @property
    def is_device(self) -> bool:
        """Whether it is a device or a pipe, from which nothing can be read back."""
        return self._device is not None

    def start(self, lines: Iterable[bytes] = ()) -> None:
        """Replace the earlier file by these lines; further ones follow them. Until it returns the earlier file stays.

        Raises:
            FastSamError: the file cannot be written, or another process is writing to it.
        """
        self._earlier.close()
        self._lock_earlier()  # another process may have begun since
        with self._earlier, ExitStack() as undo:
            with stream_to(self.path, synced=False) as stream:
                stream.writelines(lines)
                stream.flush()
                size = stream.tell()
                if sys.platform != "win32":  # where an open file cannot be renamed
                    handle = os.dup(stream.fileno())  # keeps the lock of the draft
                    undo.callback(os.close, handle)
            if sys.platform == "win32":
                handle = os.open(self._place.path, os.O_WRONLY | os.O_APPEND | os.O_BINARY)
            undo.pop_all()
        self._handle, self._size = handle, size

    def write(self, line: bytes, *, replaces: bool = True) -> None:
        """Add a line.

        Args:
            line: with its line break.
            replaces: if it is the first one, whether it is reason enough to replace an earlier file that is not empty.
                Otherwise it is kept for the next line that is.

        Raises:
            FastSamError: it cannot be written; the lines before it are.
        """
        if self._device is not None:
            with os_errors_as(FastSamError, self.path):
                self._device.write(line)
                self._device.flush()
        elif self._handle >= 0:
            self._append(line)
        else:
            self._held.append(line)
            if replaces or self._replaces_nothing:
                self.start(self._held)

    def close(self) -> None:
        """Wait until all lines are on the disk, and close the file. A second call does nothing."""
        handle, self._handle = self._handle, -1
        self._earlier.close()
        if self._device is not None:
            with suppress(OSError):  # every line has been flushed
                self._device.close()
        elif handle >= 0:
            with suppress(OSError):
                os.fsync(handle)
            os.close(handle)

    def _lock_earlier(self) -> bool:
        """Whether there is an earlier file that is not empty. It is locked until it is replaced."""
        try:
            handle = os.open(self._place.path, os.O_RDONLY)
        except OSError:  # there is none, or one that only its writer may replace
            return self._place.path.exists()
        self._earlier.callback(os.close, handle)
        try:
            with suppress(NotImplementedError):
                lock_file(handle)
        except FileExistsError as error:
            self._earlier.close()
            raise FastSamError(
                f"{self.path}: another process is writing to it; wait for its end, or name another file"
            ) from error
        return os.fstat(handle).st_size > 0

    def _append(self, line: bytes) -> None:
        try:
            with os_errors_as(FastSamError, self.path):
                self._write_rest(line)
        except FastSamError:
            with suppress(OSError):
                os.ftruncate(self._handle, self._size)
                os.lseek(self._handle, self._size, os.SEEK_SET)
            raise
        except BaseException:  # Ctrl-C or a signal
            with os_errors_as(FastSamError, self.path):
                self._write_rest(line)
            raise
        finally:
            self._size = os.lseek(self._handle, 0, os.SEEK_CUR)

    def _write_rest(self, line: bytes) -> None:
        """Write what is absent of the line that begins at `_size`. Raises OSError."""
        end = self._size + len(line)
        while (position := os.lseek(self._handle, 0, os.SEEK_CUR)) < end:
            os.write(self._handle, line[position - self._size :])

    def __enter__(self) -> LineFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their line breaks, without a last one that has none.

    Raises:
        FastSamError: it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "rows.txt")
        ...     _ = path.write_bytes(b"a row\\na r")
        ...     list(whole_lines(path))
        [b'a row\\n']
    """
    try:
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
    except OSError as error:
        raise FastSamError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
