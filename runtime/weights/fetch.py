"""Downloading a file of known size and SHA-256: resumed after an interruption, in place only when it is whole."""

from __future__ import annotations

import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import FastSamError, ParameterError
from ..system.atomic import rename_synced
from ..system.digest import sha256_of_file
from ..system.locks import open_locked
from .published import RELEASE, PublishedWeights

TIMEOUT_S = 30.0
"""Longest wait for an answer or for further bytes."""

PAUSES_S = (1.0, 3.0)
"""Before further attempts, each of which continues where the last one ended; a fresh byte starts them anew."""

_BLOCK = 1 << 18

_PASSING = (408, 416, 425, 429)
"""HTTP errors of the kind 4xx after which a further attempt makes sense."""


class DownloadError(FastSamError):
    """Weights cannot be downloaded. The message says where to get them by other means and where to put them.

    Example:
        >>> fetch(published("FastSAM-s"), Path("FastSAM-s.pt"))  # doctest: +SKIP
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.weights.fetch.DownloadError: FastSAM-s.pt: no connection to github.com …
    """


class _Broken(Exception):  # noqa: N818
    """The transfer ended early, and why; what has arrived is kept.

    Attributes:
        final: a further attempt would end in the same way.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


def fetch(
    weights: PublishedWeights,
    target: Path,
    *,
    release: str = RELEASE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Download weights, unless they are there.

    What has arrived is kept in a file beside `target`, with `.part` after its name, and continued by the next call.

    Args:
        weights: which.
        target: where to put them.
        release: address of a folder with a copy of the public release; http or https.
        progress: called with the bytes that have arrived, and with the size.

    Returns:
        `target`.

    Raises:
        DownloadError: the file cannot be fetched, or the one that is there or arrives is not the published one.
        ParameterError: `release` is no web address.

    Example:
        >>> fetch(published("FastSAM-s"), Path("FastSAM-s.pt"))  # doctest: +SKIP
        PosixPath('FastSAM-s.pt')
    """
    url = weights.url(release)
    if not re.match(r"https?://\S+$", url):
        raise ParameterError(f"{release!r:.80} is no web address, expected http:// or https:// and a folder")
    if target.exists():
        _check_there(weights, target)
        return target
    part = target.with_name(f"{target.name}.part")
    with _part_file(part) as file:
        try:
            continued = _length(file) > 0
            found = _received(url, weights, file, progress)
            if found != weights.sha256 and continued:  # what was there may have been of another file
                file.truncate(0)
                found = _received(url, weights, file, progress)
        except _Broken as broken:
            raise _not_fetched(weights, url, target, str(broken), _length(file)) from broken
        if found != weights.sha256:
            file.truncate(0)
            raise DownloadError(
                f"{url} has SHA-256 {found}, expected {weights.sha256}: it is another file, or was changed on its way. "
                "It was not kept; try again, or from another network"
            )
        rename_synced(part, target, error=DownloadError)
    return target


def _check_there(weights: PublishedWeights, target: Path) -> None:
    try:
        with target.open("rb") as file:
            found = sha256_of_file(file)
    except OSError as error:
        raise DownloadError(f"{target}: cannot be read ({error.strerror or error}); move it away") from error
    if found != weights.sha256:
        raise DownloadError(
            f"{target} has SHA-256 {found}, expected {weights.sha256}: it is not the published {weights.file_name}; "
            "move it away to download that"
        )


@contextmanager
def _part_file(part: Path) -> Iterator[BinaryIO]:
    """The file for what has arrived, held by this process alone. It is removed at the end if it is empty."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(part, error) from error
    try:
        file = open_locked(part)
    except FileExistsError as error:
        raise DownloadError(f"{part}: another process is downloading into it; wait for that") from error
    except OSError as error:
        raise _not_written(part, error) from error
    with file:
        try:
            yield file
        finally:
            if _length(file) == 0:
                part.unlink(missing_ok=True)


def _not_written(part: Path, error: OSError) -> DownloadError:
    return DownloadError(f"{part}: cannot be written ({error.strerror or error}); choose another folder")


def _received(url: str, weights: PublishedWeights, file: BinaryIO, progress: Callable[[int, int], None]) -> str:
    """SHA-256 of the file, after as many attempts as it takes until it is as long as it should be."""
    pauses = iter(PAUSES_S)
    if _length(file) > weights.size_bytes:  # of another release
        file.truncate(0)
    while (have := _length(file)) < weights.size_bytes:
        try:
            _receive(url, weights.size_bytes, file, progress)
        except _Broken as broken:
            if broken.final:
                raise
            if _length(file) > have:
                pauses = iter(PAUSES_S)
            pause = next(pauses, None)
            if pause is None:
                raise
            time.sleep(pause)
    return sha256_of_file(file)


def _receive(url: str, size: int, file: BinaryIO, progress: Callable[[int, int], None]) -> None:
    """One attempt, from the end of what has arrived.

    Raises:
        _Broken: it ended early.
    """
    have = _length(file)
    request = urllib.request.Request(url, headers={"User-Agent": "fastsam-deploy", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.build_opener().open(request, timeout=TIMEOUT_S) as answer:
            if not _continues(answer, have):
                file.truncate(0)
                have = 0
            file.seek(have)
            while block := answer.read(_BLOCK):
                have += len(block)
                if have > size:
                    file.truncate(0)
                    raise _Broken(f"it is longer than the {size:,} bytes that were published", final=True)
                file.write(block)
                progress(have, size)
        file.flush()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # what has arrived is not the beginning of this file
            file.truncate(0)
        final = 400 <= error.code < 500 and error.code not in _PASSING
        raise _Broken(f"the server answers {error.code} {error.reason}", final=final) from error
    except (OSError, HTTPException) as error:
        file.flush()
        raise _Broken(_reason(error)) from error
    if have < size:
        raise _Broken("the connection ended early")


def _continues(answer: Any, have: int) -> bool:
    """Whether the answer begins at the byte that was asked for."""
    return have > 0 and answer.status == 206 and str(answer.headers["Content-Range"]).startswith(f"bytes {have}-")


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    return " ".join(str(cause).split()) or type(cause).__name__


def _length(file: BinaryIO) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


def _not_fetched(weights: PublishedWeights, url: str, target: Path, reason: str, arrived: int) -> DownloadError:
    kept = f"; {arrived / 1e6:.1f} MB have arrived, and the next attempt continues there" if arrived else ""
    return DownloadError(
        f"{weights.file_name} could not be downloaded ({reason}){kept}. On a machine with an internet connection, "
        f"download {url} ({weights}) and put it at {target.absolute()}, then run this again"
    )
