"""Paths of this machine and URLs of object stores, through fsspec."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from ...errors import FastSamError, MissingDependencyError, pip_install

_FILE = "file://"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(location: str) -> bool:
    """Whether it is the URL of an object store or a server, and no path of this machine.

    Example:
        >>> is_url("s3://bucket/photos"), is_url("file:///photos"), is_url("photos")
        (True, False, False)
    """
    return _URL.match(location) is not None and not location.startswith(_FILE)


def local_path(location: str) -> Path:
    """The path of a location that is no URL of another machine.

    Example:
        >>> local_path("file:///photos/my%20cat.jpg").as_posix()
        '/photos/my cat.jpg'
    """
    if not location.startswith(_FILE):
        return Path(location)
    return Path(os.fsdecode(unquote_to_bytes(location.removeprefix(_FILE))))


def location_of(path: str) -> str:
    """A local path as text that any program can store; one that is no UTF-8 becomes a URL.

    Example:
        >>> location_of("/photos/cat.jpg"), location_of(os.fsdecode(b"/photos/\\xff.jpg"))
        ('/photos/cat.jpg', 'file:///photos/%FF.jpg')
    """
    return path if stored_text(path) == path else _FILE + quote(os.fsencode(path))


def stored_text(text: str) -> str:
    """A text as UTF-8 can hold it: bytes of a name that are no UTF-8 are written as in Python.

    Example:
        >>> print(stored_text("\\udcff.jpg"))
        \\udcff.jpg
    """
    return text.encode(errors="backslashreplace").decode()


def open_store(url: str) -> tuple[Any, str]:
    """The file system of fsspec that a URL belongs to, and the path in it.

    Raises:
        MissingDependencyError: fsspec, or its package for this kind of URL, is not installed.

    Example:
        >>> store, path = open_store("memory://photos/cat.jpg")  # doctest: +SKIP
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingDependencyError(f"{url}: fsspec is not installed; run: {pip_install('batch')}") from error
    try:
        store, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(f"{url}: {error}; for s3:// run: pip install s3fs, for gs:// gcsfs") from error
    except ValueError as error:
        raise FastSamError(f"{url}: {error}; expected a path, or a URL of a kind that fsspec knows") from error
    return store, str(path)


def arrow(module: str = "pyarrow") -> Any:
    """A module of PyArrow.

    Raises:
        MissingDependencyError: it is not installed.

    Example:
        >>> arrow("pyarrow.parquet").__name__  # doctest: +SKIP
        'pyarrow.parquet'
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"Parquet needs PyArrow ({error}); run: {pip_install('batch')}") from error


@contextmanager
def damaged_parquet(place: str) -> Iterator[None]:
    """Turn what PyArrow raises about a Parquet file into one error.

    Args:
        place: the file, for messages.

    Raises:
        FastSamError: in place of an exception that is none of ours.

    Example:
        >>> with damaged_parquet("out/parts/000000003.parquet"):
        ...     raise OSError("Data corruption detected")
        Traceback (most recent call last):
        fastsam_deploy.runtime.errors.FastSamError: out/parts/000000003.parquet: cannot be read (Data corruption \
detected); remove it and run `fastsam batch` again
    """
    try:
        yield
    except FastSamError:
        raise
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise FastSamError(f"{place}: cannot be read ({reason}); remove it and run `fastsam batch` again") from error


@contextmanager
def store_errors(location: str, doing: str) -> Iterator[None]:
    """Turn what a file system or an object store raises into one error about a location.

    Raises:
        FastSamError: in place of any exception that is none of ours. FileNotFoundError and PermissionError stay.

    Example:
        >>> with store_errors("s3://bucket/a", "read"):
        ...     raise OSError("Please reduce your request rate")
        Traceback (most recent call last):
        fastsam_deploy.runtime.errors.FastSamError: s3://bucket/a: cannot be read (Please reduce your request rate); \
check the address and its permissions, and run the same command again
    """
    try:
        yield
    except (FastSamError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # stores raise classes of their own, such as those of botocore
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FastSamError(
            f"{location}: cannot be {doing} ({reason}); check the address and its permissions, and run the same "
            "command again"
        ) from error
