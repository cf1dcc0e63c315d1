"""A run over many images: which of them are to be done, and where their records go."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..sources.paths import STANDARD_INPUT
from .images import Job
from .json_lines import JsonLines
from .outputs import output_names
from .records import Records, RunSettings, absolute
from .resume import EarlierRun, check_resumable, read_earlier

JOURNAL = ".fastsam.jsonl"
"""The records, without segments, in an output folder. They are written for runs over several images without --json."""


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
        self, paths: Sequence[Path], json_target: str | None, folder: Path | None = None, *, resume: bool = False
    ) -> None:
        """
        Args:
            paths: the images.
            json_target: file of the records, or "-" for standard output; None for none.
            folder: for the outputs of the images, which exists; None for none.
            resume: go on where an earlier run stopped.

        Raises:
            FastSamError: the records cannot be written.
            ParameterError: nothing says what an earlier run has done.
        """
        self._paths, self._folder = paths, folder
        with ExitStack() as stack:
            self._lines = stack.enter_context(JsonLines(json_target)) if json_target is not None else None
            self.records = Records(full=self._lines)
            if (self._lines is None or self._lines.path is None) and folder is not None and (resume or len(paths) > 1):
                journal = stack.enter_context(JsonLines(folder / JOURNAL))
                self.records = Records(full=self._lines, short=journal)
                self._lines = journal
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

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
