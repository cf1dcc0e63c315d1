"""What a worker does with a task: read the chunk, segment its images, write the part. Every executor uses it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing

from ....errors import FastSamError
from ....pipeline import FastSAM
from ....stages.image import ImageLoader
from ..job import Job, describe
from ..output.listing import Chunk, Listing
from ..output.plan import existing_plan, failed_name, part_name
from ..output.schema import Row, failed_schema, parquet_bytes, part_bytes
from ..output.store import Store
from .alone import rows_alone
from .interface import Outcome, Task
from .rows import open_for, rows_of
from .watchdog import rearm, time_limit

_OPEN_S = 600.0
"""Allowed for opening the model."""


class ChunkWorker:
    """Works on tasks, one after the other. Make one in each process.

    The model is opened with the first task. An image that takes longer than `Job.image_s` ends the process, by a timer
    of C code that needs no lock of Python: whoever started the process sees it die and gives the task again, with
    `alone`.

    Example:
        >>> with ChunkWorker(job, threads=1) as worker:  # doctest: +SKIP
        ...     worker.run(Task(3)).images
        256
    """

    def __init__(self, job: Job, threads: int | None = None) -> None:
        """
        Args:
            job: whose plan and listing are in its output.
            threads: of the network; None: as the settings of the job say.

        Raises:
            FastSamError: there is no plan.
        """
        self._job, self._threads = job, threads
        self._store = Store(job.output)
        self._plan = existing_plan(self._store)
        self._listing = Listing(self._store, self._plan)
        self._open = ExitStack()
        self._model: tuple[FastSAM, ImageLoader | None] | None = None

    def run(self, task: Task, on_images: Callable[[int], None] = lambda _: None) -> Outcome:
        """Segment the images of a chunk and write its part.

        Args:
            task: the chunk.
            on_images: called with 1 after each image.

        Returns:
            The outcome. Faults that are not those of an image are in `refused`; any other exception, such as a
            MemoryError, is raised, and counts as the death of the worker.
        """
        try:
            chunk = self._listing.chunk(task.number)
            rows = []
            with closing(self._rows(chunk, task.alone)) as results:
                for row in results:
                    rows.append(row)
                    on_images(1)
            return self._write(chunk, rows)
        except FastSamError as error:
            return Outcome(task.number, refused=str(error))

    def close(self) -> None:
        """Close the model. A second call does nothing."""
        self._model = None
        self._open.close()

    def _rows(self, chunk: Chunk, alone: bool) -> Generator[Row, None, None]:
        if alone:
            self.close()  # two models at once may not fit
            yield from rows_alone(self._job, chunk, self._threads)
            return
        with time_limit(_OPEN_S):
            model, loader = self._opened()
            rearm(self._job.image_s)
            with closing(rows_of(model, self._job, chunk.images, loader)) as rows:
                for row in rows:
                    yield row
                    rearm(self._job.image_s)

    def _opened(self) -> tuple[FastSAM, ImageLoader | None]:
        if self._model is None:
            with ExitStack() as stack:
                self._model = open_for(self._job, self._threads, stack)
                self._plan.check_same(describe(self._job, self._model[0]), self._job.output)
                self._open = stack.pop_all()
        return self._model

    def _write(self, chunk: Chunk, rows: list[Row]) -> Outcome:
        """Write the dead letters, then the part: where the part is, they are too."""
        failed = [
            {**row, "offset": image.offset, "size": image.size}
            for row, image in zip(rows, chunk.images, strict=True)
            if row.get("error") is not None
        ]
        if failed:
            names = failed_schema().names
            listed = [{name: row.get(name) for name in names} for row in failed]
            self._store.write(failed_name(chunk.number), parquet_bytes(listed, failed_schema()))
        content = part_bytes(rows, self._plan.description)
        self._store.write(part_name(chunk.number), content)
        return Outcome(chunk.number, len(rows), len(failed), len(content))

    def __enter__(self) -> ChunkWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
