"""Files and folders that appear whole or not at all: the one place that writes them.

What is written goes into a draft beside its place (see `drafts`), then onto the disk, and one rename puts it there. An
error, Ctrl-C or a full disk leaves what was there before. Permission bits are those of the file that is replaced, or
follow the umask.

- A link to a file stays a link: the file it leads to is replaced.
- A device, a pipe or an open descriptor (/dev/stdout) is written to, never replaced.
- A folder is never replaced by a file.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import FastSamError
from . import drafts
from .places import Place, place_of

_NO_ROOM = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room, or choose another folder")
_ADVICE = {**_NO_ROOM, errno.EISDIR: "choose another name", errno.ENAMETOOLONG: "choose a shorter name"}
_ABOUT_WRITING = (*_NO_ROOM, errno.EROFS, errno.EPIPE)


def write_atomically(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Write a file whole, or leave what is there.

    Args:
        synced: wait until it is on the disk, some milliseconds. Without, a power cut may leave an empty file.

    Raises:
        FastSamError: it cannot be written there.

    Example:
        >>> write_atomically(Path("answer.json"), b"{}")  # doctest: +SKIP
    """
    with stream_to(path, synced=synced) as stream:
        stream.write(content)


@contextmanager
def stream_to(path: Path, *, synced: bool = True, error: type[FastSamError] = FastSamError) -> Iterator[BinaryIO]:
    """A stream whose content is the file's once the block has ended without an exception.

    Args:
        path: a device or a pipe gets the content as it is written and flushed.
        synced: as for `write_atomically`.
        error: class of the errors to raise.

    Raises:
        FastSamError: the file cannot be written, said before the block; or the disk is full, said by the block.

    Example:
        >>> with stream_to(Path("rows.txt")) as stream:  # doctest: +SKIP
        ...     stream.write(b"a row")
    """
    with _told(path, error):
        place = place_of(path)
    if place.direct:
        with _told(path, error):
            device = place.open()
        with _told(path, error, of_block=()), device:
            yield device
        return
    with (
        # Without its suffix nobody takes the draft of a picture for a picture.
        _drafts_at([path], [place], [""], error, synced=synced) as (draft,),
        os.fdopen(os.dup(draft.handle), "wb") as stream,
    ):
        yield stream


@contextmanager
def draft_of(path: Path, *, parents: bool = False, error: type[FastSamError] = FastSamError) -> Iterator[Path]:
    """Name of an empty file that a library may write, and that becomes `path` when the block ends without an exception.

    Args:
        path: its suffix is the draft's as well: many libraries look at it.
        parents: make the folder where it is missing.
        error: class of the errors to raise.

    Raises:
        FastSamError: the file cannot be written, said before the block; or the disk is full, said by the block.

    Example:
        >>> with draft_of(Path("model.onnx")) as draft:  # doctest: +SKIP
        ...     onnx.save(graph, draft)
        ...     onnx.checker.check_model(draft)
    """
    with _told(path, error):
        place = place_of(path)
    if place.direct:
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / f"draft{path.suffix}"
            draft.touch()
            with _told(path, error, of_block=()):
                yield draft
            with _told(path, error), draft.open("rb") as source, place.open() as device:
                shutil.copyfileobj(source, device)
        return
    with drafts_of(path, parents=parents, error=error) as (draft,):
        yield draft


@contextmanager
def drafts_of(
    *paths: Path, parents: bool = False, error: type[FastSamError] = FastSamError
) -> Iterator[tuple[Path, ...]]:
    """As `draft_of`, for files that belong together. They are renamed in the order given.

    The file that others open comes last: it is never there without its companions. If a rename is refused, the files
    that are new are removed again. The names of the drafts differ in the suffix alone, as those of the files do.

    Args:
        paths: in one folder, each with another suffix.

    Raises:
        FastSamError: a file cannot be written, or the disk is full.

    Example:
        >>> with drafts_of(Path("m.json"), Path("m.plan")) as (record, plan):  # doctest: +SKIP
        ...     record.write_text("{}")
        ...     plan.write_bytes(b"...")
    """
    with _told(paths[0], error):
        _folder_of(paths[0], parents)
    places = []
    for path in paths:
        with _told(path, error):
            places.append(place_of(path))
    if len({place.path.parent.resolve() for place in places}) > 1 or any(place.direct for place in places):
        raise error(
            f"{', '.join(map(str, paths))}: lead to different folders or to devices, expected files in one folder; "
            "replace the links by files"
        )
    with _drafts_at(paths, places, [path.suffix for path in paths], error) as made:
        yield tuple(draft.path for draft in made)


@contextmanager
def draft_folder(
    path: Path, *, replace: bool = False, parents: bool = False, error: type[FastSamError] = FastSamError
) -> Iterator[Path]:
    """An empty folder that becomes `path` when the block ends without an exception.

    Args:
        path: absent or an empty folder.
        replace: a folder that is not empty is replaced as well. Between two renames `path` is absent for a moment.
        parents: make the folder's parents where they are missing.
        error: class of the errors to raise.

    Raises:
        FastSamError: the folder cannot be written, or is there and not to be replaced.

    Example:
        >>> with draft_folder(Path("clip")) as draft:  # doctest: +SKIP
        ...     (draft / "clip.json").write_text("{}")
    """
    with _told(path, error):
        target = Path(os.path.realpath(path))
        draft = drafts.draft_folder(_folder_of(target, parents))
    try:
        with _told(path, error, of_block=[draft]):
            yield draft.path
        with _told(path, error):
            draft.replace_folder(target) if replace and target.is_dir() else draft.put(target)
    finally:
        draft.remove()


@contextmanager
def scratch_beside(
    path: Path, suffix: str | None = None, *, parents: bool = False, error: type[FastSamError] = FastSamError
) -> Iterator[Path]:
    """An empty file or folder beside `path`, where there is room for what is large. It goes with the block.

    Args:
        path: of a file or a folder; it need not exist.
        suffix: of the scratch file, with its dot; None for a scratch folder.
        parents: make the folder where it is missing.
        error: class of the errors to raise.

    Raises:
        FastSamError: nothing can be written there, or the disk is full.

    Example:
        >>> with scratch_beside(Path("model.plan"), ".onnx") as scratch:  # doctest: +SKIP
        ...     onnx.save(graph, scratch)
    """
    with _told(path, error):
        folder = _folder_of(Path(os.path.realpath(path)), parents)
        draft = drafts.draft_folder(folder) if suffix is None else drafts.draft_files(folder, [suffix], [0o666])[0]
    try:
        with _told(path, error, of_block=[draft]):
            yield draft.path
    finally:
        draft.remove()


def rename_synced(source: Path, target: Path, *, error: type[FastSamError] = FastSamError) -> None:
    """Put a whole file or folder in its place: what is renamed is on the disk.

    Args:
        source: in the same file system, such as in a scratch folder.
        target: a file is replaced by a file; a folder is replaced by a folder if it is empty.

    Raises:
        FastSamError: refused by the system; the source is still there.

    Example:
        >>> rename_synced(Path("scratch/1"), Path("repository/fastsam/1"))  # doctest: +SKIP
    """
    with _told(target, error):
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
    """Drafts of regular files in one folder; put in their places at the end, in order, or removed."""
    with _told(paths[0], error):
        # A draft is for no more eyes than what it replaces; but its writer must be able to open it.
        modes = [0o666 if place.mode is None else place.mode | 0o600 for place in places]
        made = drafts.draft_files(places[0].path.parent, suffixes, modes)
    with ExitStack() as stack:
        for draft in made:
            stack.callback(draft.remove)
        with _told(paths[0], error, of_block=made):
            yield made
        with ExitStack() as new:
            for path, place, draft in zip(paths, places, made, strict=True):
                with _told(path, error):
                    draft.put(place.path, place.mode, synced=synced)
                if place.mode is None:
                    new.callback(place.path.unlink, missing_ok=True)
            new.pop_all()


@contextmanager
def _told(path: Path, error: type[FastSamError], of_block: Sequence[drafts.Draft] | None = None) -> Iterator[None]:
    """What the system refuses becomes an error about `path`.

    Args:
        of_block: the block is the caller's: only what is about these drafts, or about the disk, is meant.
    """
    try:
        yield
    except OSError as refusal:
        if of_block is not None and refusal.errno not in _ABOUT_WRITING:
            within = [os.fspath(draft.path) for draft in of_block]
            if not str(refusal.filename).startswith(tuple(within)):
                raise
        advice = _ADVICE.get(refusal.errno or 0, "choose another folder")
        raise error(f"{path}: cannot be written ({refusal.strerror or refusal}); {advice}") from refusal
