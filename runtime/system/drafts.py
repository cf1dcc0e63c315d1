"""Drafts: hidden files and folders that are being written.

A draft lies in the same folder as its target, so that one rename puts it in place. Its writer holds a lock (flock) on
it while it runs, in whatever container. A draft left behind by a killed writer has no lock, and the next writer in
that folder removes it. On a file system without locks, no draft is taken for abandoned. A draft that a signal has kept
from being removed is removed when the process ends (see `remaining`).
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path

from . import remaining
from .exchange import exchange
from .locks import is_at, lock_file

_NAME = re.compile(r"\.fs-[0-9a-f]{8}\.part(\..+)?", re.DOTALL)
_TRIES = 100
_LONGEST_SUFFIX = 32  # bytes; the name of a draft then has 49, which every file system accepts
_LOOK_EVERY_S = 60  # a folder may hold a million files: it is not read for each that is written
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)


class Draft:
    """A hidden file or folder of this process, until it is put in its place or removed.

    Attributes:
        path: where it is written.
        handle: the open file or folder, which carries the lock; -1 if a folder cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (draft,) = draft_files(Path(folder), [".txt"], [0o666])
        ...     _ = draft.path.write_text("a row")
        ...     draft.put(Path(folder, "rows.txt"))
        ...     draft.remove()  # closes the handle; what has been put in place stays
        ...     Path(folder, "rows.txt").read_text()
        'a row'
    """

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.handle = handle
        self._process = os.getpid()

    def put(self, target: Path, mode: int | None = None, *, synced: bool = True) -> None:
        """Wait until all of it is on the disk, then rename it to `target`, as `rename_synced` does.

        Args:
            synced: False: rename it without waiting.

        Raises:
            OSError: refused by the system; the draft is still there.
        """
        if sys.platform == "win32":
            self._release()
        if synced:
            rename_synced(self.path, target, mode)
            return
        if mode is not None:
            self.path.chmod(mode)
        self.path.replace(target)

    def replace_folder(self, target: Path) -> None:
        """Replace an existing folder, which need not be empty; otherwise as `put`.

        Where the system can exchange two folders, there is no moment without one. Elsewhere the old folder has the
        hidden name `.fs-XXXXXXXX.old` between two renames, which is never removed as abandoned.

        Raises:
            OSError: refused by the system; both the draft and the old folder still exist.
        """
        _sync_all(self.path)
        if exchange(self.path, target):  # the old one is removed as the draft
            _sync_folder(target.parent)
            return
        old = target.with_name(self.path.name.replace(".part", ".old"))
        try:
            target.rename(old)
            self.put(target)
        finally:
            if not target.exists():
                old.rename(target)
            elif old.exists():
                old.rename(self.path)  # if removing it is interrupted, the next writer removes the rest

    def remove(self) -> None:
        """Remove it, unless it has been put in place, and release the lock. A second call does nothing.

        A forked child that leaves the block does not remove the draft, which its parent may still be writing.
        """
        if sys.platform == "win32":
            self._release()
        if self._process == os.getpid():
            remaining.remove(self.path)
            remaining.forget(self.path)
        self._release()

    def _release(self) -> None:
        handle, self.handle = self.handle, -1
        if handle >= 0:
            os.close(handle)


def rename_synced(source: Path, target: Path, mode: int | None = None) -> None:
    """Wait until a file, or a folder and its content, is on the disk; rename it; wait until the rename is on the disk.

    Args:
        source: on the same file system as the target.
        target: a file replaces a file; a folder replaces an empty folder.
        mode: new permission bits of a file; None keeps them.

    Raises:
        OSError: refused by the system; the source still exists.

    Example:
        >>> rename_synced(Path("scratch.onnx"), Path("model.onnx"), 0o644)  # doctest: +SKIP
    """
    if source.is_dir():
        _sync_all(source)
    else:
        _sync(source, os.O_RDWR, mode)
    source.replace(target)
    _sync_folder(target.parent)


def draft_files(folder: Path, suffixes: Sequence[str], modes: Sequence[int]) -> list[Draft]:
    """Make empty files whose names differ in the suffix alone. Abandoned drafts in the folder are removed.

    Args:
        folder: must exist.
        suffixes: all different, "" for none. A suffix of more than 32 bytes is left out of the name.
        modes: permission bits of each file, reduced by the umask of the process.

    Raises:
        OSError: refused by the system; nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for draft in draft_files(Path(folder), [".json", ".plan"], [0o666, 0o666]):
        ...         draft.path.suffix
        ...         draft.remove()
        '.json'
        '.plan'
    """

    def make(path: Path, mode: int) -> Draft:
        return _locked(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, mode))

    short = [suffix if len(os.fsencode(suffix)) <= _LONGEST_SUFFIX else "" for suffix in suffixes]
    return _make_drafts(folder, short, modes, make)


def draft_folder(folder: Path, mode: int = 0o777) -> Draft:
    """Make an empty folder in `folder`. Abandoned drafts there are removed.

    Args:
        folder: must exist.
        mode: permission bits, reduced by the umask of the process.

    Raises:
        OSError: refused by the system; nothing is left behind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draft = draft_folder(Path(folder))
        ...     draft.put(Path(folder, "clip"))
        ...     draft.remove()
        ...     [path.name for path in Path(folder).iterdir()]
        ['clip']
    """

    def make(path: Path, mode: int) -> Draft:
        path.mkdir(mode)
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, path, ignore_errors=True)
            draft = Draft(path, -1) if sys.platform == "win32" else _locked(path, _opened_folder(path))
            undo.pop_all()
            return draft

    return _make_drafts(folder, [""], [mode], make)[0]


def _make_drafts(
    folder: Path, suffixes: Sequence[str], modes: Sequence[int], make: Callable[[Path, int], Draft]
) -> list[Draft]:
    """Make drafts under a name that is not taken."""
    _remove_abandoned(os.path.abspath(folder), int(time.monotonic() / _LOOK_EVERY_S))  # noqa: PTH100 - follows no link
    for _ in range(_TRIES):
        stem = f".fs-{secrets.token_hex(4)}.part"
        with suppress(FileExistsError), ExitStack() as stack:
            drafts = []
            for suffix, mode in zip(suffixes, modes, strict=True):
                drafts.append(_announced(folder / f"{stem}{suffix}", mode, make))
                stack.callback(drafts[-1].remove)
            stack.pop_all()
            return drafts
    raise FileExistsError(errno.EEXIST, f"{_TRIES} names for a draft are all taken", str(folder))


def _announced(path: Path, mode: int, make: Callable[[Path, int], Draft]) -> Draft:
    """A draft that the end of the process removes, whatever interrupts its making."""
    remaining.announce(path)
    try:
        return make(path, mode)
    except OSError:  # it is another process's, or there is none
        remaining.forget(path)
        raise


def _opened_folder(path: Path) -> int:
    """The new folder, open. Raises FileExistsError if another writer removed it before it was opened."""
    try:
        return os.open(path, os.O_RDONLY | _FLAGS)
    except FileNotFoundError as error:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error


def _locked(path: Path, handle: int) -> Draft:
    """The new draft with its lock. Raises FileExistsError if another writer removed it before it was locked."""
    try:
        with suppress(NotImplementedError):
            lock_file(handle)
        if not is_at(handle, path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    except BaseException:
        os.close(handle)
        raise
    return Draft(path, handle)


@lru_cache(maxsize=256)
def _remove_abandoned(folder: str, _minute: int) -> None:
    """Runs at most once a minute for each folder: the cache sees to that."""
    with suppress(OSError):
        for path in [Path(entry.path) for entry in os.scandir(folder) if _NAME.fullmatch(entry.name)]:
            with suppress(OSError, NotImplementedError):
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    kind = path.lstat().st_mode
    if sys.platform == "win32":
        if stat.S_ISREG(kind):
            path.unlink()  # refused while its writer has it open
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        return  # not a draft
    # On NFS only a file that is open for writing can be locked.
    handle = os.open(path, _FLAGS | os.O_NONBLOCK | (os.O_RDWR if stat.S_ISREG(kind) else os.O_RDONLY))
    try:
        lock_file(handle)
        if is_at(handle, path):
            shutil.rmtree(path, ignore_errors=True) if stat.S_ISDIR(kind) else path.unlink()
    finally:
        os.close(handle)


def _sync_all(folder: Path) -> None:
    """Wait until a folder and its content is on the disk."""
    for within, _, names in os.walk(folder):
        for path in (Path(within, name) for name in names):
            if not path.is_symlink():
                _sync(path, os.O_RDONLY)
        _sync_folder(Path(within))


def _sync(path: Path, access: int, mode: int | None = None) -> None:
    """Change the permission bits of a file, unless None, and wait until its content is on the disk."""
    handle = os.open(path, access | _FLAGS)
    try:
        if mode is not None:
            path.chmod(mode)
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every system can open folders; the files in them are whole either way
        _sync(folder, os.O_RDONLY)
