"""Which image files a command line means."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from ..errors import ImageError
from ..stages.image import SUFFIXES
from ..system.identity import real_path

OVERLAY_STEM, MASKS, CUTOUTS = ".overlay", ".masks", ".cutouts"
"""What is written for the image `x` is called `x` and one of these: a picture of any format, and two folders."""


def find_images(arguments: Sequence[str]) -> list[Path]:
    """The files meant by paths, folders and patterns, in that order, each once.

    A folder stands for the files directly in it that end like an image; `**` in a pattern descends. What an
    earlier run wrote is left out of folders and patterns. A path that is neither a folder nor a pattern
    is taken as it is, there or not: reading it tells.

    Raises:
        ImageError: a folder or pattern holds no image.
    """
    images: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            paths = sorted(p for p in path.iterdir() if _looks_like_image(p))
        elif any(sign in argument for sign in "*?[") and not path.exists():
            # Path.glob takes no absolute patterns.
            matches = map(Path, sorted(glob.glob(argument, recursive=True)))  # noqa: PTH207
            paths = [p for p in matches if _looks_like_image(p)]
        else:
            paths = [path]
        if not paths:
            endings = " ".join(sorted(SUFFIXES))
            raise ImageError(f"{argument}: no image found; expected files ending in {endings}; name the file itself")
        for path in paths:
            images.setdefault(real_path(path), path)
    return list(images.values())


def _looks_like_image(path: Path) -> bool:
    written = path.stem.lower().endswith(OVERLAY_STEM) or path.parent.name.endswith((MASKS, CUTOUTS))
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not written and path.is_file()
