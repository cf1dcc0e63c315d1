"""A model file that was opened before a fork is opened again in the forked child."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ..errors import DeviceError, ModelError
from ..settings import EngineSettings

T = TypeVar("T")


def reopening(path: Path, settings: EngineSettings, open_file: Callable[[Path, EngineSettings], T]) -> Callable[[], T]:
    """What opens the file again in a forked child. Call this before the file is opened for the first time.

    Args:
        path: of a file that exists.
        settings: as for the first time.
        open_file: called with absolute paths, as the child may be in another folder.

    Returns:
        Raises ModelError where the file has changed since, and DeviceError for another device than the CPU.
    """
    cache = settings.cache if isinstance(settings.cache, bool) else Path(settings.cache).absolute()
    absolute, again = path.absolute(), replace(settings, cache=cache)
    before = state_of(absolute)

    def reopen() -> T:
        if settings.device != "cpu":
            raise DeviceError(
                f"{path.name}: was opened on device {settings.device!r} before this process was forked, and CUDA does "
                "not work in such a child; open the model in the worker itself, or start workers with the method "
                "'spawn'"
            )
        if state_of(absolute) != before:
            raise ModelError(
                f"{path}: has changed since it was opened, before this process was forked; expected the same file; "
                "open the model in the worker itself"
            )
        return open_file(absolute, again)

    return reopen


def state_of(path: Path) -> tuple[int, int, int, int] | None:
    """Tells one content of a file from another; None where there is no file.

    Example:
        >>> state_of(Path("absent.onnx")) is None
        True
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
