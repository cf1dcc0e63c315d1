"""Which file a path means, and that no output takes the place of an input or of another output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from ..errors import ParameterError

FileIdentity: TypeAlias = "tuple[int, int] | Path"
"""Device and inode of a file that exists, the path with all links followed of one that does not."""


def real_path(path: Path) -> Path:
    """The path with all links followed; the file need not exist.

    >>> real_path(Path("a/../photo.jpg")) == real_path(Path("photo.jpg"))
    True
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links; reading it will tell
        return path.absolute()


def file_identity(path: Path) -> FileIdentity:
    """The same for all names of one file: other spellings, symbolic links and hard links.

    >>> file_identity(Path("a/../photo.jpg")) == file_identity(Path("photo.jpg"))
    True
    """
    try:
        status = path.stat()
    except OSError:
        return real_path(path)
    return status.st_dev, status.st_ino


def check_outputs(inputs: Iterable[Path], outputs: Mapping[str, Path | None]) -> dict[FileIdentity, str]:
    """Refuse a run in which an output is an input, or two outputs are one file. Call it before anything is opened.

    Args:
        inputs: files that are read.
        outputs: what the user calls an output, such as "--json", and its file; None where there is none. Devices and
            pipes, such as /dev/null, take any number of outputs.

    Returns:
        What each file is, in words for messages.

    Raises:
        ParameterError: names the first output that does not fit.

    >>> check_outputs([Path("clip.avi")], {"--output": Path("x/../clip.avi")})
    Traceback (most recent call last):
    fastsam_deploy.runtime.errors.ParameterError: x/../clip.avi: is one of the inputs and would be overwritten; \
choose another --output
    """
    known = {file_identity(path): "one of the inputs" for path in inputs}
    for option, path in outputs.items():
        if path is not None and not _is_device(path):
            refuse_overwriting(path, known, option)
            known[file_identity(path)] = f"the file of {option}"
    return known


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def refuse_overwriting(path: Path, known: Mapping[FileIdentity, str], option: str) -> None:
    """Raise if a file to be written is one that the run knows already.

    Args:
        path: to be written.
        known: what `check_outputs` returned.
        option: what the user can change, such as "--output".

    Raises:
        ParameterError: it is.
    """
    use = known.get(file_identity(path))
    if use is not None:
        raise ParameterError(f"{path}: is {use} and would be overwritten; choose another {option}")
