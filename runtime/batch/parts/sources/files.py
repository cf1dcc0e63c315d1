"""Files of folders and patterns, on this machine and in object stores, in the order of their names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ....errors import FastSamError, ImageError
from ....sources.paths import is_output
from ....system.identity import real_path
from ..locations import is_url, local_path, location_of, open_store, store_errors, stored_text

_WILD = "*?["


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a source.

    Attributes:
        name: path within the source, with `/` between folders.
        location: path or URL.
        fingerprint: see `SourceImage`.

    Example:
        >>> ListedFile("cats/1.jpg", "/photos/cats/1.jpg", "37201-17").name
        'cats/1.jpg'
    """

    name: str
    location: str
    fingerprint: str


def listed_files(source: str, exclude: str | None = None) -> Iterator[ListedFile]:
    """The files of a folder and its sub-folders, of a pattern, or one file.

    Hidden files, outputs of earlier runs (by their names) and what is in `exclude` are left out. Links to folders are
    not followed.

    Args:
        source: path, URL, or a pattern of one of them.
        exclude: a folder, such as the output.

    Raises:
        FastSamError: there is no such file or folder, or it cannot be listed.

    Example:
        >>> [file.name for file in listed_files("photos")]  # doctest: +SKIP
        ['cat.jpg', 'dogs/1.jpg', 'dogs/2.jpg']
    """
    files = _remote(source) if is_url(source) else _local(local_path(source), exclude)
    return (file for file in files if not _is_hidden(file.name))


def _is_hidden(name: str) -> bool:
    path = Path(name)
    return is_output(path) or any(part.startswith(".") for part in path.parts[:-1])


def fingerprint_of(path: Path) -> str:
    """The fingerprint of a local file; "missing" if there is none.

    Example:
        >>> fingerprint_of(Path("no-such-file.jpg"))
        'missing'
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        return "missing"
    return f"{status.st_size}-{status.st_mtime_ns}"


def _local(path: Path, exclude: str | None) -> Iterator[ListedFile]:
    if path.is_dir():
        yield from _tree(path, None if exclude is None or is_url(exclude) else real_path(local_path(exclude)))
    elif path.exists() or not any(sign in str(path) for sign in _WILD):
        if not path.is_file():
            raise ImageError(f"{path}: no such file or folder; check the path")
        yield _listed(path.name, str(path))
    else:
        root = _fixed_part(str(path))
        for name in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 - Path.glob takes no absolute patterns
            if os.path.isfile(name):  # noqa: PTH113 - a million of them
                yield _listed(os.path.relpath(name, root).replace(os.sep, "/"), name)


def _listed(name: str, path: str) -> ListedFile:
    return ListedFile(stored_text(name), location_of(path), fingerprint_of(Path(path)))


def _fixed_part(pattern: str) -> str:
    """The folders of a pattern before the first one with a sign that stands for others."""
    parts = Path(pattern).parts
    wild = next(i for i, part in enumerate(parts) if any(sign in part for sign in _WILD))
    return str(Path(*parts[:wild]))


def _tree(root: Path, exclude: Path | None) -> Iterator[ListedFile]:
    def refuse(error: OSError) -> None:
        raise FastSamError(f"{root}: cannot be searched ({error.strerror}); check its permissions") from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (exclude is None or real_path(Path(folder, name)) != exclude)
        )
        within = os.path.relpath(folder, root)
        prefix = "" if within == "." else within.replace(os.sep, "/") + "/"
        for name in sorted(names):
            yield _listed(prefix + name, os.path.join(folder, name))  # noqa: PTH118 - a million of them


def _remote(url: str) -> Iterator[ListedFile]:
    store, path = open_store(url)
    with store_errors(url, "listed"):
        store.invalidate_cache()
        if any(sign in path for sign in _WILD):
            entries, root = store.glob(path, detail=True), _fixed_part(path)
        else:
            entries, root = store.find(path, detail=True), path
    if not entries:
        raise ImageError(f"{url}: nothing is there; check the address")
    for name, entry in sorted(entries.items()):
        if entry.get("type") != "directory":
            within = name if name == root else str(PurePosixPath(name).relative_to(root))
            label = PurePosixPath(name).name if name == root else within
            yield ListedFile(label, str(store.unstrip_protocol(name)), _stored_fingerprint(entry))


def _stored_fingerprint(entry: Mapping[str, Any]) -> str:
    """Size and ETag, or what a store has in its place."""
    marks = (entry.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created"))
    mark = next((str(mark) for mark in marks if mark), "")
    return f"{entry.get('size')}-{mark}".replace('"', "") if mark else ""
