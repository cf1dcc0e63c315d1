"""The folder or object store of a run's results. Every file in it appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ....errors import FastSamError
from ....system.atomic import os_errors_as, write_atomically
from ..locations import is_url, local_path, open_store, store_errors


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store.

    Attributes:
        name: within the store, with `/` between folders.
        size: bytes.

    Example:
        >>> StoredFile("parts/000000003.parquet", 81234).size
        81234
    """

    name: str
    size: int


class Store:
    """A folder of this machine, or a prefix of an object store (any URL that fsspec knows).

    A file of a folder is written beside its place and renamed, see `system.atomic`. An object is written with one
    call, which object stores carry out whole or not at all, also in several pieces.

    Attributes:
        target: as it was given.
        folder: the folder; None for an object store.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store(folder)
        ...     store.write("parts/a", b"content")
        ...     store.read("parts/a"), [file.size for file in store.files("parts")]
        (b'content', [7])
    """

    def __init__(self, target: str) -> None:
        """
        Args:
            target: path or URL. A folder is made when something is written.

        Raises:
            FastSamError: no such kind of URL is known.
        """
        self.target = target
        self.folder: Path | None = None if is_url(target) else local_path(target)
        self._remote: Any = None
        if self.folder is None:
            self._remote, self._prefix = open_store(target.rstrip("/"))

    def place(self, name: str) -> str:
        """Path or URL of a file, for messages and other programs."""
        return f"{self.target.rstrip('/')}/{name}" if self.folder is None else str(self.folder / name)

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all. Raises FastSamError if it cannot be written."""
        if self.folder is None:
            with self._errors(name, "written"):
                self._remote.pipe_file(f"{self._prefix}/{name}", content)
            return
        path = self.folder / name
        with os_errors_as(FastSamError, path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none.
            FastSamError: it cannot be read.
        """
        with self.open(name) as file:
            content: bytes = file.read()
        return content

    def open(self, name: str) -> IO[bytes]:
        """A file for reading, which can seek. Raises as `read` does."""
        with self._errors(name, "read"):
            if self.folder is None:
                stream: IO[bytes] = self._remote.open(f"{self._prefix}/{name}", "rb")
                return stream
            return (self.folder / name).open("rb")

    def exists(self, name: str) -> bool:
        """Whether there is such a file. Raises FastSamError if that cannot be said."""
        with self._errors(name, "looked for"):
            if self.folder is None:
                return bool(self._remote.exists(f"{self._prefix}/{name}"))
            return (self.folder / name).is_file()

    def files(self, folder: str) -> Iterator[StoredFile]:
        """The files directly in a folder, by name; none if there is no such folder. Hidden files are left out.

        Raises:
            FastSamError: it cannot be listed.
        """
        with self._errors(folder, "listed"):
            if self.folder is None:
                prefix = f"{self._prefix}/{folder}"
                self._remote.invalidate_cache()
                try:
                    objects = self._remote.ls(prefix, detail=True)
                except FileNotFoundError:
                    objects = []
                entries = [(entry["name"].rpartition("/")[2], entry["size"] or 0) for entry in objects]
            else:
                path = self.folder / folder
                entries = [(entry.name, entry.stat().st_size) for entry in path.iterdir()] if path.is_dir() else []
        return (StoredFile(f"{folder}/{name}", size) for name, size in sorted(entries) if not name.startswith("."))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. Raises FastSamError if it cannot be removed."""
        with self._errors(name, "removed"):
            if self.folder is not None:
                (self.folder / name).unlink(missing_ok=True)
            elif self._remote.exists(f"{self._prefix}/{name}"):
                self._remote.rm_file(f"{self._prefix}/{name}")

    @contextmanager
    def _errors(self, name: str, doing: str) -> Iterator[None]:
        try:
            with store_errors(self.place(name), doing):
                yield
        except PermissionError as error:
            reason = error.strerror or error
            raise FastSamError(f"{self.place(name)}: cannot be {doing} ({reason}); check its permissions") from error
