"""Folders of images as videos: each file is a frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from ..stages.image import ImageFile, load_image
from ..stages.isolated import IsolatedLoader
from .frames import Frame, MissingFrames, VideoInfo
from .paths import search_images

USUAL_FPS = 25.0


class FrameFolder:
    """The images of a folder, in the order of their names; numbers in names count as numbers: 2 comes before 10.

    Example:
        >>> with FrameFolder(Path("frames")) as folder:  # doctest: +SKIP
        ...     print([frame.path.name for frame in folder.frames()])
        ['1.jpg', '2.jpg', '10.jpg']
    """

    is_live = False

    def __init__(self, path: Path, fps: float = USUAL_FPS, *, isolate: bool = False) -> None:
        """
        Args:
            path: of the folder; its sub-folders are not searched.
            fps: frames per second.
            isolate: decode the images in a process of its own with limits, see `IsolatedLoader`.

        Raises:
            ImageError: it has no image, or none that can be read.
        """
        search = search_images([str(path)])
        if search.errors:
            raise search.errors[0]
        search.report_skipped()
        self.name = str(path)
        self._paths = sorted(search.paths, key=_natural_order)
        self._loader = IsolatedLoader() if isolate else None
        first = next(filter(None, map(self._size_hw, self._paths)), None)
        if first is None:
            raise ImageError(f"{path}: none of its {len(self._paths)} images can be read; make them again")
        self.info = VideoInfo(first, fps, len(self._paths))
        self.missing = MissingFrames((), len(self._paths))

    def frames(self) -> Iterator[Frame]:
        """The images; those that cannot be read are left out and are in `missing`.

        Raises:
            ImageError: the size of an image is not that of the first one.
        """
        missing: list[tuple[int, int]] = []
        for number, path in enumerate(self._paths):
            try:
                image = self._load(path)
            except ImageError:
                last = missing[-1] if missing and missing[-1][1] == number - 1 else None
                missing[len(missing) - (last is not None) :] = [(number if last is None else last[0], number)]
                continue
            (height, width), (h, w) = image.shape[:2], self.info.hw
            if (height, width) != (h, w):
                raise ImageError(
                    f"{path}: is {width}×{height}, expected {w}×{h} as the first one: all frames have one size; scale "
                    "it, or use fastsam segment"
                )
            yield Frame(number, number / self.info.fps, np.ascontiguousarray(image[..., ::-1]), path)
        self.missing = MissingFrames(tuple(missing), len(self._paths))

    def _load(self, path: Path) -> NDArray[np.uint8]:
        return load_image(ImageFile(path, loader=self._loader))

    def _size_hw(self, path: Path) -> tuple[int, int] | None:
        try:
            height, width = self._load(path).shape[:2]
        except ImageError:
            return None
        return height, width

    def close(self) -> None:
        """End the process that decodes, if there is one."""
        if self._loader is not None:
            self._loader.close()

    def __enter__(self) -> FrameFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _natural_order(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]
