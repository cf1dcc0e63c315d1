"""Files and folders that appear whole or not at all. All files are written here, but those that grow (see `lines`).

The content is written to a draft in the same folder (see `drafts`) and synced to the disk; then one rename puts it in
place. After an error, Ctrl-C or a full disk, the previous file is unchanged. A file that replaces another keeps its
permission bits; those of a new file follow the umask.

- A link to a file stays a link: the file that it points to is replaced.
- A device, a pipe or an open descriptor (/dev/stdout) is written to, never replaced.
- A file never replaces a folder.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import FastSamError
from . import drafts
from .places import Place, place_of
from .scratch import scratch_folder

_NO_ROOM = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or choose another folder")
_ADVICE = {**_NO_ROOM, errno.EISDIR: "choose another name", errno.ENAMETOOLONG: "choose a shorter name"}
_WRITE_ERRORS = (*_NO_ROOM, errno.EROFS, errno.EPIPE)


def write_atomically(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Write a file whole, or leave the previous one unchanged.

    Args:
        path: of the file.
        content: all of it.
        synced: wait until it is on the disk, which takes some milliseconds. Otherwise a power cut may leave an empty
            file.

    Raises:
        FastSamError: the file cannot be written.

    Example:
        >>> with scratch_folder() as folder:
        ...     write_atomically(Path(folder, "answer.json"), b"{}")
        ...     Path(folder, "answer.json").read_text()
        '{}'
    """
    with stream_to(path, synced=synced) as stream:
        stream.write(content)


@contextmanager
def stream_to(path: Path, *, synced: bool = True, error: type[FastSamError] = FastSamError) -> Iterator[BinaryIO]:
    """A stream whose content becomes that of the file when the block ends without an exception.

    Args:
        path: of the file. A device or a pipe gets the content as it is written and flushed.
        synced: see `write_atomically`.
        error: class of the errors to raise.

    Raises:
        FastSamError: the file cannot be written (raised before the block runs), or the disk is full.

    Example:
        >>> with scratch_folder() as folder:
        ...     with stream_to(Path(folder, "rows.txt")) as stream:
        ...         _ = stream.write(b"a row")
        ...     Path(folder, "rows.txt").read_text()
        'a row'
    """
    with os_errors_as(error, path):
        place = place_of(path)
    if place.direct:
        with os_errors_as(error, path):
            device = place.open()
        with os_errors_as(error, path, of_drafts=()), device:
            yield device
        return
    with (
        # No suffix: the draft of a picture must not be taken for a picture.
        _drafts_at([path], [place], [""], error, synced=synced) as (draft,),
        os.fdopen(os.dup(draft.handle), "wb") as stream,
    ):
        yield stream


@contextmanager
def draft_of(path: Path, *, parents: bool = False, error: type[FastSamError] = FastSamError) -> Iterator[Path]:
    """Path of an empty file for a library to write; it becomes `path` when the block ends without an exception.

    Args:
        path: of the file. The draft has the same suffix, since many libraries look at it.
        parents: make the folder if it is missing.
        error: class of the errors to raise.

    Raises:
        FastSamError: the file cannot be written (raised before the block runs), or the disk is full.

    Example:
        >>> with draft_of(Path("model.onnx")) as draft:  # doctest: +SKIP
        ...     onnx.save(graph, draft)
        ...     onnx.checker.check_model(draft)
    """
    with os_errors_as(error, path):
        place = place_of(path)
    if place.direct:
        with scratch_folder() as folder:
            draft = folder / f"draft{path.suffix}"
            draft.touch()
            with os_errors_as(error, path, of_drafts=()):
                yield draft
            with os_errors_as(error, path), draft.open("rb") as source, place.open() as device:
                shutil.copyfileobj(source, device)
        return
    with drafts_of(path, parents=parents, error=error) as (draft,):
        yield draft


@contextmanager
def drafts_of(
    *paths: Path, parents: bool = False, error: type[FastSamError] = FastSamError
) -> Iterator[tuple[Path, ...]]:
    """As `draft_of`, for files that belong together. They are renamed in the given order.

    Name last the file that readers open: it then never exists without its companions. If a rename is refused, new
    files are removed again. The names of the drafts differ in the suffix alone, as those of the files do.

    Args:
        paths: in one folder, with different suffixes.
        parents, error: see `draft_of`.

    Raises:
        FastSamError: a file cannot be written, or the disk is full.

    Example:
        >>> with drafts_of(Path("m.json"), Path("m.plan")) as (record, plan):  # doctest: +SKIP
        ...     record.write_text("{}")
        ...     plan.write_bytes(b"...")
    """
    with os_errors_as(error, paths[0]):
        _folder_of(paths[0], parents)
    places = []
    for path in paths:
        with os_errors_as(error, path):
            places.append(place_of(path))
    if len({place.path.parent.resolve() for place in places}) > 1 or any(place.direct for place in places):
        raise error(
            f"{', '.join(map(str, paths))}: lead to different folders or to devices, expected files in one folder; "
            "replace the links by files"
        )
    stem = min((path.stem for path in paths), key=len)  # of m.rtx and m.rtx.json: m
    with _drafts_at(paths, places, [path.name.removeprefix(stem) for path in paths], error) as new:
        yield tuple(draft.path for draft in new)


@contextmanager
def draft_folder(
    path: Path, *, replace: bool = False, parents: bool = False, error: type[FastSamError] = FastSamError
) -> Iterator[Path]:
    """An empty folder that becomes `path` when the block ends without an exception.

    Args:
        path: missing, or an empty folder.
        replace: also replace a folder that is not empty. Between two renames `path` is missing for a moment.
        parents: make the parents of the folder if they are missing.
        error: class of the errors to raise.

    Raises:
        FastSamError: the folder cannot be written, or exists and may not be replaced.

    Example:
        >>> with scratch_folder() as parent:
        ...     with draft_folder(Path(parent, "clip")) as draft:
        ...         _ = (draft / "clip.json").write_text("{}")
        ...     [path.name for path in Path(parent, "clip").iterdir()]
        ['clip.json']
    """
    with os_errors_as(error, path):
        target = Path(os.path.realpath(path))
        draft = drafts.draft_folder(_folder_of(target, parents))
    try:
        with os_errors_as(error, path, of_drafts=[draft]):
            yield draft.path
        with os_errors_as(error, path):
            draft.replace_folder(target) if replace and target.is_dir() else draft.put(target)
    finally:
        draft.remove()


@contextmanager
def scratch_beside(
    path: Path, suffix: str | None = None, *, parents: bool = False, error: type[FastSamError] = FastSamError
) -> Iterator[Path]:
    """An empty file or folder beside `path`, for large temporary data. It is removed at the end of the block.

    Args:
        path: of a file or a folder; it need not exist.
        suffix: of the scratch file, with its dot; None for a scratch folder.
        parents: make the folder if it is missing.
        error: class of the errors to raise.

    Raises:
        FastSamError: nothing can be written there, or the disk is full.

    Example:
        >>> with scratch_beside(Path("model.plan"), ".onnx") as scratch:  # doctest: +SKIP
        ...     onnx.save(graph, scratch)
    """
    with os_errors_as(error, path):
        folder = _folder_of(Path(os.path.realpath(path)), parents)
        draft = drafts.draft_folder(folder) if suffix is None else drafts.draft_files(folder, [suffix], [0o666])[0]
    try:
        with os_errors_as(error, path, of_drafts=[draft]):
            yield draft.path
    finally:
        draft.remove()


def rename_synced(source: Path, target: Path, *, error: type[FastSamError] = FastSamError) -> None:
    """Put a complete file or folder in place, after its content has been synced to the disk.

    Args:
        source: on the same file system, such as in a scratch folder.
        target: a file replaces a file; a folder replaces an empty folder.
        error: class of the errors to raise.

    Raises:
        FastSamError: refused by the system; the source still exists.

    Example:
        >>> rename_synced(Path("scratch/1"), Path("repository/fastsam/1"))  # doctest: +SKIP
    """
    with os_errors_as(error, target):
        drafts.rename_synced(source, target)


def _folder_of(path: Path, parents: bool) -> Path:
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent


@contextmanager
def _drafts_at(
    paths: Sequence[Path],
    places: Sequence[Place],
    suffixes: Sequence[str],
    error: type[FastSamError],
    *,
    synced: bool = True,
) -> Iterator[list[drafts.Draft]]:
    """Drafts of regular files in one folder; at the end they are put in place in order, or removed."""
    with os_errors_as(error, paths[0]):
        # A draft must not be readable by more users than the file that it replaces, but its writer must open it.
        modes = [0o666 if place.mode is None else place.mode | 0o600 for place in places]
        new = drafts.draft_files(places[0].path.parent, suffixes, modes)
    with ExitStack() as stack:
        for draft in new:
            stack.callback(draft.remove)
        with os_errors_as(error, paths[0], of_drafts=new):
            yield new
        with ExitStack() as undo:
            for path, place, draft in zip(paths, places, new, strict=True):
                with os_errors_as(error, path):
                    draft.put(place.path, place.mode, synced=synced)
                if place.mode is None:
                    undo.callback(place.path.unlink, missing_ok=True)
            undo.pop_all()


@contextmanager
def os_errors_as(
    error: type[FastSamError], path: Path, of_drafts: Sequence[drafts.Draft] | None = None
) -> Iterator[None]:
    """Turn an OSError into an error about `path`.

    Args:
        error: class of the error to raise.
        path: that is written.
        of_drafts: given if the block runs code of the caller: then only errors about these drafts or about writing to
            the disk are turned.

    Raises:
        FastSamError: in place of an OSError.

    Example:
        >>> with os_errors_as(FastSamError, Path("x.json")):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        fastsam_deploy.runtime.errors.FastSamError: x.json: cannot be written (No space left on device); make room, or \
choose another folder
    """
    try:
        yield
    except OSError as refusal:
        if of_drafts is not None and refusal.errno not in _WRITE_ERRORS:
            within = [os.fspath(draft.path) for draft in of_drafts]
            if not str(refusal.filename).startswith(tuple(within)):
                raise
        advice = _ADVICE.get(refusal.errno or 0, "choose another folder")
        raise error(f"{path}: cannot be written ({refusal.strerror or refusal}); {advice}") from refusal
