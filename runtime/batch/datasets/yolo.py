"""YOLO: a folder that ultralytics trains on: images/, labels/ and data.yaml."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ... import formats
from ...documents import dump
from ...errors import FastSamError
from ...render import save_image
from ...sources.paths import STANDARD_INPUT
from ...system.atomic import draft_of, scratch_beside, write_atomically
from ..outputs import OutputFolder
from . import DatasetOptions, DoneImage, RecordsReader

_READ_BY_ALL = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
"""Image files that every version of ultralytics reads. Others become PNG."""


class YoloSet:
    """images/NAME.jpg, a link to the image or a copy of it, labels/NAME.txt, and data.yaml.

    An image without segments has an empty file of labels, which makes it a background image. Training and validation
    are the same images in data.yaml: it is for whoever trains to split them.

    Example:
        >>> YoloSet("yolo", OutputFolder(Path("."), []), DatasetOptions()).needs_pixels(Path("cat.jp2"))
        True
    """

    reads_segments = False

    def __init__(self, _name: str, output: OutputFolder, options: DatasetOptions) -> None:
        self._output, self._options = output, options

    def needs_pixels(self, path: Path) -> bool:
        """Whether ultralytics would read something else from the file than was segmented, or nothing."""
        return self._options.reading_chosen or path == STANDARD_INPUT or path.suffix.lower() not in _READ_BY_ALL

    def write(self, done: DoneImage) -> list[Path]:
        """The labels and the image, of which the labels come last: without them an image counts as background."""
        image = self._image(done)
        labels = self._output.file(Path("labels", done.name), ".txt")
        formats.write(labels, done.segments, "yolo")
        return [image, labels]

    def finish(self, class_names: tuple[str, ...], records: RecordsReader) -> list[Path]:
        """data.yaml. Its paths are relative to its own folder, which may be moved."""
        path = self._output.file(Path("data"), ".yaml")
        names = "".join(f"  {number}: {dump(name, ensure_ascii=False)}\n" for number, name in enumerate(class_names))
        write_atomically(path, f"train: images\nval: images\nnames:\n{names}".encode())
        return [path]

    def _image(self, done: DoneImage) -> Path:
        if self.needs_pixels(done.path) and done.pixels is not None:
            path = self._output.file(Path("images", done.name), ".png")
            save_image(path, done.pixels)
            return path
        name = Path("images", done.name)
        place = self._output.folder / name.with_name(name.name + done.path.suffix)
        if place.exists() and not place.is_symlink() and place.samefile(done.path):
            return place  # the image lies where it belongs
        if os.path.abspath(place) == os.path.abspath(done.path):  # noqa: PTH100 - links are not followed
            return place  # a link that is the input itself: one to itself would lead nowhere
        if self._options.copy_images and place.is_symlink():
            place.unlink()  # of an earlier run: the image that it leads to would be taken for the output
        path = self._output.file(name, done.path.suffix, replaces_link=not self._options.copy_images)
        if self._options.copy_images:
            with draft_of(path) as draft:
                shutil.copyfile(done.path, draft)
        else:
            _link(path, done.path)
        return path


def _link(path: Path, target: Path) -> None:
    """A symbolic link, which replaces what is there at once."""
    try:
        # In a folder, because a link cannot be locked, and would be left behind by a kill.
        with scratch_beside(path.parent / "link") as folder:
            draft = folder / "link"
            draft.symlink_to(os.path.abspath(target))  # noqa: PTH100 - links are not followed
            draft.replace(path)
    except OSError as error:
        raise FastSamError(
            f"{path}: cannot be made a link to {target} ({error.strerror}); copy the images: --copy-images"
        ) from error
