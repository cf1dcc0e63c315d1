"""A run over many images: which of them are to be done, and where their records go."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..sources.paths import STANDARD_INPUT
from ..system.lines import whole_lines
from .images import Job
from .json_lines import JsonLines
from .outputs import output_names
from .records import Records, RunSettings, absolute
from .resume import EarlierRun, check_resumable, read_earlier

JOURNAL = ".fastsam.jsonl"
"""The records in an output folder. They are written for runs over several images, if --json names no file."""


class Run:
    """The records of a run, open for writing.

    Attributes:
        records: where they are written.

    Example:
        >>> with Run([Path("cat.jpg")], "-") as run:
        ...     [job.name.name for job in run.begin(RunSettings({}))]
        ['cat']
    """

    records: Records

    def __init__(
        self,
        paths: Sequence[Path],
        json_target: str | None,
        folder: Path | None = None,
        *,
        resume: bool = False,
        reads_segments: bool = False,
    ) -> None:
        """
        Args:
            paths: the images.
            json_target: file of the records, or "-" for standard output; None for none.
            folder: for the outputs of the images, which exists; None for none.
            resume: go on where an earlier run stopped.
            reads_segments: something is made of the segments of all images at the end, so that they must be in the
                records.

        Raises:
            FastSamError: the records cannot be written.
            ParameterError: nothing says what an earlier run has done.
        """
        self._paths, self._folder = paths, folder
        with ExitStack() as stack:
            self._lines = stack.enter_context(JsonLines(json_target)) if json_target is not None else None
            self.records = Records([] if self._lines is None else [self._lines])
            is_file = self._lines is not None and self._lines.path is not None
            if folder is not None and not is_file and (resume or reads_segments or len(paths) > 1):
                printed, self._lines = self._lines, stack.enter_context(JsonLines(folder / JOURNAL))
                full = [lines for lines in (printed, self._lines if reads_segments else None) if lines is not None]
                self.records = Records(full, short=None if reads_segments else self._lines)
            path = None if self._lines is None else self._lines.path
            self._resumed = check_resumable(path) if resume else None
            self._open = stack.pop_all()

    def begin(self, settings: RunSettings) -> list[Job]:
        """The images that are left to be done. What an earlier run wrote about the others stays.

        Args:
            settings: of this run, with which those images must have been done.

        Raises:
            ParameterError: an image was done with other settings.
            FastSamError: the records cannot be written.
        """
        named = [Path("stdin") if path == STANDARD_INPUT else path for path in self._paths]
        earlier = EarlierRun(Path())
        if self._resumed is not None and self._lines is not None:
            earlier = read_earlier(self._resumed, settings, self._paths, self._folder)
            self._lines.start(earlier.kept())
        done = {image.path for image in earlier.done}
        names = output_names(named, earlier.done.values())
        return [Job(path, name) for path, name in zip(self._paths, names, strict=True) if absolute(path) not in done]

    def all_records(self) -> Iterator[dict[str, Any]]:
        """The records of all images with segments, those of earlier runs included, from the file."""
        if self._lines is not None and self._lines.path is not None and self._lines.path.exists():
            records = (json.loads(line) for line in whole_lines(self._lines.path))
            yield from (record for record in records if "segments" in record)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
