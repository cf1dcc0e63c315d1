"""Which image files a command line means."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError
from ..stages.reading.formats import HEIF_SUFFIXES, OTHER_SUFFIXES, readable_suffixes
from ..system.identity import real_path

OVERLAY_STEM, MASKS, CUTOUTS = ".overlay", ".masks", ".cutouts"
"""What is written for the image `x` is called `x` and one of these: a picture of any format, and two folders."""

STANDARD_INPUT = Path("-")
"""Stands for the image that is piped into a command."""

_log = logging.getLogger(__name__)

_NAMED = 5
"""So many of the files that are left out are named."""


@dataclass(frozen=True, slots=True)
class ImageSearch:
    """What paths, folders and patterns stand for.

    Attributes:
        paths: the files, in the order of the arguments, each once.
        errors: of arguments that stand for no file.
        skipped: files in folders and patterns that end like images of formats that are not read here.
    """

    paths: tuple[Path, ...]
    errors: tuple[ImageError, ...]
    skipped: tuple[Path, ...]

    def report_skipped(self) -> None:
        """Log what was left out, in one line for all."""
        if not self.skipped:
            return
        names = ", ".join(str(path) for path in self.skipped[:_NAMED])
        files = "1 file was" if len(self.skipped) == 1 else f"{len(self.skipped)} files were"
        heif = any(path.suffix.lower() in HEIF_SUFFIXES for path in self.skipped)
        hint = "; HEIC is read with pip install 'fastsam-deploy[heif]'" if heif else ""
        more = ", …" if len(self.skipped) > _NAMED else ""
        _log.warning("%s skipped, of formats that are not read: %s%s%s", files, names, more, hint)


def search_images(arguments: Sequence[str]) -> ImageSearch:
    """The files meant by paths, folders and patterns.

    A folder stands for the files directly in it that end like an image; `**` in a pattern descends. What an
    earlier run wrote is left out of folders and patterns. A path that is neither a folder nor a pattern
    is taken as it is, there or not: reading it tells.

    >>> search_images(["none.jpg", "no/such/*.jpg"]).paths
    (PosixPath('none.jpg'),)
    """
    images: dict[Path, Path] = {}
    errors, skipped = [], dict[Path, Path]()
    for argument in arguments:
        try:
            paths, others = _files_of(argument)
        except ImageError as error:
            errors.append(error)
            continue
        for files, known in ((paths, images), (others, skipped)):
            for path in files:
                known.setdefault(real_path(path), path)
    return ImageSearch(tuple(images.values()), tuple(errors), tuple(skipped.values()))


def find_images(arguments: Sequence[str]) -> list[Path]:
    """The files of `search_images`, where each argument has to stand for some; what is left out is logged.

    Raises:
        ImageError: a folder or pattern holds no image, or cannot be searched.
    """
    search = search_images(arguments)
    if search.errors:
        raise search.errors[0]
    search.report_skipped()
    return list(search.paths)


def _files_of(argument: str) -> tuple[list[Path], list[Path]]:
    """The files that one argument stands for, and those that are left out.

    Raises:
        ImageError: it is a folder or a pattern without an image, or cannot be searched.
    """
    readable = readable_suffixes()
    try:
        candidates = _candidates(argument)
        if candidates is None:
            return [Path(argument)], []
        paths = _with_suffix(candidates, readable)
        others = _with_suffix(candidates, (HEIF_SUFFIXES | OTHER_SUFFIXES) - readable)
    except OSError as error:
        raise ImageError(
            f"{argument}: cannot be searched ({error.strerror or error}); check the path and its permissions"
        ) from error
    if not paths:
        found = f"no image found, but {len(others)} of formats that are not read" if others else "no image found"
        endings = " ".join(sorted(readable))
        raise ImageError(f"{argument}: {found}; expected files ending in {endings}; name the file itself")
    return paths, others


def _candidates(argument: str) -> list[Path] | None:
    """The files in a folder or of a pattern, sorted; None for any other path.

    Raises:
        OSError: a folder cannot be read.
    """
    path = Path(argument)
    # os.path's functions say no where Path's raise: of a name that is too long, say. Reading it will tell.
    if os.path.isdir(path):  # noqa: PTH112
        return sorted(path.iterdir())
    if any(sign in argument for sign in "*?[") and not os.path.exists(path):  # noqa: PTH110
        # Path.glob takes no absolute patterns.
        return list(map(Path, sorted(glob.glob(argument, recursive=True))))  # noqa: PTH207
    return None


def _with_suffix(paths: Iterable[Path], suffixes: frozenset[str]) -> list[Path]:
    """Those with one of the endings, but for hidden files and what an earlier run wrote."""
    return [path for path in paths if path.suffix.lower() in suffixes and not _is_output(path) and path.is_file()]


def _is_output(path: Path) -> bool:
    written = path.stem.lower().endswith(OVERLAY_STEM) or path.parent.name.endswith((MASKS, CUTOUTS))
    return written or path.name.startswith(".")
