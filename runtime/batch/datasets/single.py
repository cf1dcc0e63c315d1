"""A file for each image, of a format of `runtime.formats`: JSON, NPZ, labelme and label maps."""

from __future__ import annotations

import os
from pathlib import Path

from ... import formats
from ..outputs import OutputFolder
from . import DatasetOptions, DoneImage, RecordsReader


class FilesOfImages:
    """NAME.json, NAME.npz or NAME.png for each image.

    Example:
        >>> FilesOfImages("npz", OutputFolder(Path("."), []), DatasetOptions()).reads_segments
        False
    """

    reads_segments = False

    def __init__(self, name: str, output: OutputFolder, _options: DatasetOptions) -> None:
        self._form = next(form for form in formats.available() if form.name == name)
        self._output = output

    def needs_pixels(self, path: Path) -> bool:
        """Never."""
        return False

    def write(self, done: DoneImage) -> list[Path]:
        """The file of an image. labelme files name the image relative to their own folder."""
        path = self._output.file(done.name, self._form.suffix)
        options = {}
        if self._form.name == "labelme":
            options["image_path"] = Path(os.path.relpath(done.path, path.parent)).as_posix()
        formats.write(path, done.segments, self._form.name, **options)
        return [path]

    def finish(self, class_names: tuple[str, ...], records: RecordsReader) -> list[Path]:
        """Nothing."""
        return []
