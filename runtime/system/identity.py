"""Which file a path refers to, and a check that no output overwrites an input or another output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from ..errors import ParameterError

FileIdentity: TypeAlias = "tuple[int, int] | Path"
"""Device and inode of an existing file; of any other, the path with all links followed."""


def real_path(path: Path) -> Path:
    """The path with all links followed; the file need not exist.

    Example:
        >>> real_path(Path("a/../photo.jpg")) == real_path(Path("photo.jpg"))
        True
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links; whoever opens the file reports it
        return path.absolute()


def is_file(path: Path) -> bool:
    """`path.is_file()`, which raises for names that no file can have: too long, or with a null character.

    Example:
        >>> is_file(Path("x" * 300)), is_file(Path("a\\0b"))
        (False, False)
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def file_identity(path: Path) -> FileIdentity:
    """A value that is the same for all paths of one file: other spellings, symbolic links and hard links.

    Example:
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
        outputs: option of the user, such as "--json", → its file, or None. Devices and pipes, such as /dev/null,
            accept any number of outputs.

    Returns:
        Identity of each file → its role, in words for messages.

    Raises:
        ParameterError: names the first output that is refused.

    Example:
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
    """Refuse to write a file that is an input or another output of the run.

    Args:
        path: the file to write.
        known: result of `check_outputs`.
        option: the option that the user can change, such as "--output".

    Raises:
        ParameterError: the file is among the known ones.

    Example:
        >>> refuse_overwriting(Path("a.json"), check_outputs([Path("photo.jpg")], {}), "--json")
    """
    use = known.get(file_identity(path))
    if use is not None:
        raise ParameterError(f"{path}: is {use} and would be overwritten; choose another {option}")
