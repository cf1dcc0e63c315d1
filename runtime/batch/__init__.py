"""Runs over many images or the frames of a video, and the files that they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .parts.reader import BatchResults

__all__ = ["read"]


def read(output: str | Path) -> BatchResults:
    """The results of `fastsam batch`: segments image by image, or Arrow tables.

    Args:
        output: folder or URL that it wrote to.

    Raises:
        FastSamError: it is no output of `fastsam batch`.

    Example:
        >>> for image in read("out"):  # doctest: +SKIP
        ...     print(image.id, image.error or len(image.segments))
        >>> read("out").to_arrow(["id", "scores"]).num_rows  # doctest: +SKIP
        1000000
    """
    from .parts.reader import BatchResults

    return BatchResults(str(output))
