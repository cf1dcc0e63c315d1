"""The image files that the arguments of a command refer to."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from ..errors import ImageError
from ..stages.reading.formats import HEIF_SUFFIXES, OTHER_SUFFIXES, readable_suffixes
from ..system.identity import real_path

OVERLAY_STEM, MASKS, CUTOUTS, CROPS = ".overlay", ".masks", ".cutouts", ".crops"
"""Endings of the outputs of an image: `x.overlay` with a suffix of any format, and folders such as `x.masks`."""

STANDARD_INPUT = Path("-")
"""The image that is piped into a command."""

_log = logging.getLogger(__name__)

_NAMED = 5
"""At most this many of the skipped files are named."""


@dataclass(frozen=True, slots=True)
class ImageSearch:
    """The files that paths, folders and patterns refer to.

    Attributes:
        paths: the files, in the order of the arguments, without repetitions.
        errors: one for each argument that refers to no file.
        skipped: files in folders and patterns whose suffix is that of an image format that cannot be read.

    Example:
        >>> ImageSearch((Path("cat.jpg"),), (), (Path("raw.cr2"),)).skipped[0].suffix
        '.cr2'
    """

    paths: tuple[Path, ...]
    errors: tuple[ImageError, ...]
    skipped: tuple[Path, ...]

    def report_skipped(self) -> None:
        """Log the skipped files in one line."""
        if not self.skipped:
            return
        names = ", ".join(str(path) for path in self.skipped[:_NAMED])
        files = "1 file was" if len(self.skipped) == 1 else f"{len(self.skipped)} files were"
        heif = any(path.suffix.lower() in HEIF_SUFFIXES for path in self.skipped)
        hint = "; HEIC is read after pip install pillow-heif (the extra [heif])" if heif else ""
        more = ", …" if len(self.skipped) > _NAMED else ""
        _log.warning("%s skipped, of formats that are not read: %s%s%s", files, names, more, hint)


def search_images(arguments: Sequence[str], *, recursive: bool = False, exclude: Sequence[Path] = ()) -> ImageSearch:
    """Find the files that paths, folders and patterns refer to.

    A folder stands for the files directly in it that have the suffix of an image; `recursive`, or `**` in a pattern,
    includes sub-folders. Outputs of earlier runs are left out of folders and patterns. A path that is neither a folder
    nor a pattern is returned as it is: if the file is missing, reading it raises the error.

    Args:
        arguments: paths, folders and patterns.
        recursive: search the sub-folders of folders too, except hidden ones.
        exclude: sub-folders that are not searched.

    Example:
        >>> [path.name for path in search_images(["none.jpg", "./none.jpg", "no/such/*.jpg"]).paths]
        ['none.jpg']
    """
    images: dict[Path, Path] = {}
    errors, skipped = [], dict[Path, Path]()
    for argument in arguments:
        try:
            paths, others = _files_of(argument, exclude if recursive else None)
        except ImageError as error:
            errors.append(error)
            continue
        for files, known in ((paths, images), (others, skipped)):
            for path in files:
                known.setdefault(real_path(path), path)
    return ImageSearch(tuple(images.values()), tuple(errors), tuple(skipped.values()))


def find_images(arguments: Sequence[str]) -> list[Path]:
    """The files of `search_images`; every argument must refer to at least one. Skipped files are logged.

    Args:
        arguments: paths, folders and patterns.

    Raises:
        ImageError: a folder or a pattern has no image, or cannot be searched.

    Example:
        >>> [path.name for path in find_images(["photos", "scans/**/*.tif"])]  # doctest: +SKIP
        ['cat.jpg', 'coffee.jpg', '1.tif']
    """
    search = search_images(arguments)
    if search.errors:
        raise search.errors[0]
    search.report_skipped()
    return list(search.paths)


def _files_of(argument: str, exclude: Sequence[Path] | None) -> tuple[list[Path], list[Path]]:
    """The files that one argument refers to, and those that are skipped.

    Args:
        argument: a path, a folder or a pattern.
        exclude: sub-folders that are not searched; None: none of them is.

    Raises:
        ImageError: it is a folder or a pattern without an image, or cannot be searched.
    """
    check_no_address(argument)
    readable = readable_suffixes()
    try:
        candidates = _candidates(argument, exclude)
        if candidates is None:
            return [Path(argument)], []
        paths = _with_suffix(candidates, readable)
        others = _with_suffix(candidates, (HEIF_SUFFIXES | OTHER_SUFFIXES) - readable)
    except OSError as error:
        raise ImageError(
            f"{argument}: cannot be searched ({error.strerror or error}); check the path and its permissions"
        ) from error
    if not paths:
        problem = f"no image found, but {len(others)} of formats that are not read" if others else "no image found"
        endings = " ".join(sorted(readable))
        raise ImageError(f"{argument}: {problem}; expected files ending in {endings}; name the file itself")
    return paths, others


def check_no_address(argument: str) -> None:
    """Refuse an address, which would become the path of a file that does not exist.

    Raises:
        ImageError: it is an address such as https://example.com/photo.jpg.

    Example:
        >>> check_no_address("photo.jpg")
    """
    if re.match(r"[A-Za-z][\w+.-]+://", argument):
        raise ImageError(f"{argument}: is an address, expected a file; download it first")


def _candidates(argument: str, exclude: Sequence[Path] | None) -> list[Path] | None:
    """The files in a folder or of a pattern, sorted; None if the argument is any other path.

    Raises:
        OSError: a folder cannot be read.
    """
    path = Path(argument)
    # The functions of os.path return False where those of Path raise, such as for a name that is too long. Reading the
    # file raises the error.
    if os.path.isdir(path):  # noqa: PTH112
        return sorted(path.iterdir()) if exclude is None else list(_tree(path, {real_path(part) for part in exclude}))
    if any(sign in argument for sign in "*?[") and not os.path.exists(path):  # noqa: PTH110
        # Path.glob takes no absolute patterns.
        return list(map(Path, sorted(glob.glob(argument, recursive=True))))  # noqa: PTH207
    return None


def _tree(folder: Path, exclude: Set[Path]) -> Iterator[Path]:
    """The files in a folder and its sub-folders, each folder in order. Links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise error

    for name, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            part for part in folders if not part.startswith(".") and real_path(Path(name, part)) not in exclude
        )
        yield from (Path(name, file) for file in sorted(files))


def _with_suffix(paths: Iterable[Path], suffixes: frozenset[str]) -> list[Path]:
    """Files with one of the suffixes, except hidden files and outputs of earlier runs."""
    return [path for path in paths if path.suffix.lower() in suffixes and not is_output(path) and path.is_file()]


def is_output(path: Path) -> bool:
    """Whether a file is hidden, or by its name the output of an earlier run.

    Example:
        >>> is_output(Path("out/cat.overlay.jpg")), is_output(Path("photos/cat.jpg"))
        (True, False)
    """
    written = path.stem.lower().endswith(OVERLAY_STEM) or path.parent.name.endswith((MASKS, CUTOUTS, CROPS))
    return written or path.name.startswith(".")
