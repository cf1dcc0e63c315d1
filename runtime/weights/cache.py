"""The folder on this machine in which downloaded weights and the files made of them are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..errors import ModelError
from .published import PUBLISHED

VARIABLE = "FASTSAM_CACHE"
"""Environment variable that names another folder."""

_FOLDER = "fastsam-deploy"


def cache_folder() -> Path:
    """The folder; it need not exist.

    That of the variable FASTSAM_CACHE, or `fastsam-deploy` in the user's folder for caches: XDG_CACHE_HOME or ~/.cache,
    on macOS ~/Library/Caches, on Windows %LOCALAPPDATA%.

    Example:
        >>> cache_folder()  # doctest: +SKIP
        PosixPath('/home/me/.cache/fastsam-deploy')
    """
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else _users_folder() / _FOLDER


def _users_folder() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return Path(local) if local else Path.home() / "AppData/Local"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches"
    base = os.environ.get("XDG_CACHE_HOME", "")
    return Path(base) if base.startswith("/") else Path.home() / ".cache"  # a relative one does not count


def cached_model(name: str) -> Path:
    """Path of the ONNX file of published weights in the cache; it need not exist.

    Example:
        >>> cached_model("FastSAM-s").name
        'FastSAM-s.onnx'
    """
    return cache_folder() / f"{name}.onnx"


def is_published(model: object) -> bool:
    """Whether a model is given by the name of published weights.

    Example:
        >>> is_published("FastSAM-s"), is_published("FastSAM-s.onnx")
        (True, False)
    """
    return isinstance(model, str) and model in PUBLISHED


def find_model(name: str) -> Path:
    """The ONNX file of published weights.

    Raises:
        ModelError: it has not been downloaded.

    Example:
        >>> find_model("FastSAM-s")  # doctest: +SKIP
        PosixPath('/home/me/.cache/fastsam-deploy/FastSAM-s.onnx')
    """
    path = cached_model(name)
    if not path.is_file():
        raise ModelError(f"{name}: is not on this machine, expected {path}; run: fastsam download {name}")
    return path
