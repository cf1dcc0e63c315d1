"""Names for the outputs of image files.

No output replaces an input or the output of another image of the same run.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import FastSamError, ParameterError
from ..stages.reading.formats import SUFFIXES
from ..system.identity import check_outputs, file_identity, real_path, refuse_overwriting


def output_names(paths: Sequence[Path], taken: Iterable[Path] = ()) -> list[Path]:
    """A unique name for each image, relative and without the ending: `x` for `a/x.jpg`.

    Images with the same stem keep their folder (`a/x`, `b/x`) and, if that is not enough, their ending (`a/x.png`).
    Names that differ only in case are treated as equal, as on some file systems.

    Args:
        paths: of the images.
        taken: names of images of an earlier run.

    Example:
        >>> [name.as_posix() for name in output_names([Path("a/x.jpg"), Path("b/x.jpg"), Path("b/y.jpg")])]
        ['a/x', 'b/x', 'y']
    """
    whole = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - resolve() would follow links
    try:
        top = Path(os.path.commonpath([path.parent for path in whole]))
        within = [path.relative_to(top) for path in whole]
    except ValueError:  # drives of Windows have nothing in common
        within = [path.relative_to(path.anchor) for path in whole]
    levels: list[list[Path]] = [
        [Path(_stem(path)) for path in within],
        [path.with_name(_stem(path)) for path in within],
        list(within),
    ]
    counts = [Counter(str(name).casefold() for name in level) for level in levels]
    names, used = [], {str(name).casefold() for name in taken}
    for candidates in zip(*levels, strict=True):
        unique = [name for name, count in zip(candidates, counts, strict=True) if count[str(name).casefold()] == 1]
        name = base = (unique or [candidates[-1]])[0]
        number = 1
        while str(name).casefold() in used:
            number += 1
            name = base.with_name(f"{base.name}-{number}")
        used.add(str(name).casefold())
        names.append(name)
    return names


def _stem(path: Path) -> str:
    """The name without its ending; of `..jpg` the whole, because nothing but dots is a folder."""
    return path.stem if path.stem.strip(".") else path.name


class OutputFolder:
    """The folder that a run writes to. Inputs in it are never overwritten, and nothing outside of it.

    The folder itself may be a link. A link in it that leads out of it is a mistake, or was planted: whoever may write
    to the folder would choose which files of the user are replaced or removed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     OutputFolder(Path(folder), [Path("photo.jpg")]).file(Path("photo"), ".overlay.jpg").name
        'photo.overlay.jpg'
    """

    def __init__(self, folder: Path, inputs: Iterable[Path], outputs: Mapping[str, Path | None] | None = None) -> None:
        """
        Args:
            folder: made if it is missing.
            inputs: files that must not be replaced.
            outputs: other outputs of the run, see `check_outputs`.

        Raises:
            FastSamError: the folder cannot be made, or one of `outputs` is an input.
            ParameterError: the name is that of a picture, and no folder has it.
        """
        if folder.suffix.lower() in SUFFIXES and not folder.exists():
            raise ParameterError(
                f"{folder}: has the name of a picture, expected a folder, in which pictures get the names of their "
                f"images; give a folder such as {folder.with_suffix('')}"
            )
        self.folder = folder
        self._known = check_outputs(inputs, outputs or {})
        _make_folder(folder)

    def file(self, name: Path, ending: str, *, replaces_link: bool = False) -> Path:
        """Path for `name` + `ending`; its folder is made.

        Args:
            name: of the outputs of an image.
            ending: of the file.
            replaces_link: the file is made beside and renamed, so that a link in its place is replaced, not followed.

        Raises:
            FastSamError: it is the path of an input, or a link leads it out of the folder.
        """
        path = self.folder / name.with_name(name.name + ending)
        self._refuse_leaving(path.parent)
        _make_folder(path.parent)
        if not (replaces_link and path.is_symlink()):  # the file that a link leads to stays
            self._checked(path)
        if not replaces_link:
            self._refuse_leaving(path)
        return path

    def numbered(self, name: Path, ending: str, count: int, kind: str = "png") -> list[Path]:
        """Paths for a set of `count` files: `name` + `ending`/000.png …; other numbered pictures are removed.

        Args:
            name: of the outputs of an image.
            ending: of the folder.
            count: number of files.
            kind: their suffix, without a dot.

        Raises:
            FastSamError: a file is an input, the folder cannot be made, or a link leads out of it.
        """
        folder = self.folder / name.with_name(name.name + ending)
        self._refuse_leaving(folder)
        _make_folder(folder)
        paths = [self._checked(folder / f"{i:03d}.{kind}") for i in range(count)]
        for path in paths:
            self._refuse_leaving(path)
        # Files left over from an earlier run with more segments would look like results of this run.
        for old in folder.iterdir():
            if re.fullmatch(r"\d{3,}\.(png|jpg|webp)", old.name) and old not in paths:
                self._checked(old).unlink()
        return paths

    def refuse_beside(self, inputs: Iterable[Path], reason: str) -> None:
        """Refuse to write into a folder that an input is in. Raises ParameterError."""
        folder = file_identity(self.folder)
        if any(file_identity(path.parent) == folder for path in inputs):
            raise ParameterError(f"{self.folder}: is a folder of images, and {reason}; choose another --output")

    def _refuse_leaving(self, path: Path) -> None:
        real, inside = real_path(path), real_path(self.folder)
        if not real.is_relative_to(inside):
            raise FastSamError(
                f"{path}: leads out of {self.folder}, to {real}, through a symbolic link; remove the link, or choose "
                "another --output"
            )

    def _checked(self, path: Path) -> Path:
        refuse_overwriting(path, self._known, "--output")
        return path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FastSamError(f"{folder}: cannot make this folder ({error.strerror}); choose another --output") from error
