"""The file of a checkpoint; official weights are downloaded where they are missing. Needs no PyTorch."""

from __future__ import annotations

from pathlib import Path

from ...runtime.weights.fetch import DownloadError, fetch
from ...runtime.weights.published import PUBLISHED, published
from ..errors import ExportError

OFFICIAL = tuple(weights.file_name for weights in PUBLISHED.values())
"""Downloaded when they are requested by name and missing."""


def find_checkpoint(name: str | Path) -> Path:
    """Find a checkpoint; FastSAM-s.pt and FastSAM-x.pt are downloaded to that path if they are missing.

    Raises:
        ExportError: there is no such file, and it cannot be downloaded.

    Example:
        >>> find_checkpoint("models/FastSAM-s.pt")  # doctest: +SKIP
        PosixPath('models/FastSAM-s.pt')
        >>> find_checkpoint("absent.pt")
        Traceback (most recent call last):
        ...
        fastsam_deploy.export.errors.ExportError: absent.pt: no such file; expected a .pt checkpoint, or one of the \
official names FastSAM-s.pt, FastSAM-x.pt, which are downloaded
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir() or path.name not in OFFICIAL:
        raise ExportError(
            f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected a .pt checkpoint, "
            f"or one of the official names {', '.join(OFFICIAL)}, which are downloaded"
        )
    try:
        return fetch(published(path.name), path)
    except DownloadError as error:
        raise ExportError(str(error)) from error
