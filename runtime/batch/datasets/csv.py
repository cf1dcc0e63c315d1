"""CSV: one table over all images, the columns of `formats.csv` after the path of the image."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ...formats.csv import NAMES, rows
from ...segments import Segments
from ...system.atomic import stream_to
from ..outputs import OutputFolder
from . import DatasetOptions, DoneImage, RecordsReader


class CsvTable:
    """segments.csv, a row for each segment of each image.

    Example:
        >>> CsvTable("csv", OutputFolder(Path("."), []), DatasetOptions()).reads_segments
        True
    """

    reads_segments = True

    def __init__(self, _name: str, output: OutputFolder, _options: DatasetOptions) -> None:
        self._path = output.file(Path("segments"), ".csv")

    def needs_pixels(self, path: Path) -> bool:
        """Never."""
        return False

    def write(self, done: DoneImage) -> list[Path]:
        """Nothing: the table is written at the end."""
        return []

    def finish(self, class_names: tuple[str, ...], records: RecordsReader) -> list[Path]:
        """The table."""
        with stream_to(self._path) as stream:
            text = io.TextIOWrapper(stream, "utf-8", newline="")
            writer = csv.DictWriter(text, ("image", *NAMES))
            writer.writeheader()
            for record in records():
                path = record["image"]["path"]
                writer.writerows({"image": path, **row} for row in rows(Segments.from_json(record)))
            text.detach()
        return [self._path]
