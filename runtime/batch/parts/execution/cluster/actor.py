"""A worker on a machine of the cluster."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from time import perf_counter

from ..... import __version__
from .....errors import FastSamError
from ...job import Description, Job, describe
from ..interface import Outcome, Task
from ..rows import open_for
from ..worker import ChunkWorker
from .metrics import WorkerMetrics


class ChunkActor:
    """What Ray makes an actor of. It keeps its model from task to task.

    Example:
        >>> actor = ray.remote(ChunkActor).remote(job, 1, "/data")  # doctest: +SKIP
        >>> ray.get(actor.run.remote(Task(3))).images  # doctest: +SKIP
        256
    """

    def __init__(self, job: Job, threads: int, folder: str) -> None:
        """
        Args:
            job: of the run.
            threads: of the network.
            folder: relative paths start there, as they do in the driver: file systems may be shared.
        """
        with suppress(OSError):
            os.chdir(folder)
        self._job, self._threads = job, threads
        self._worker: ChunkWorker | None = None
        self._metrics = WorkerMetrics()

    def version(self) -> str:
        """Version of this package on this machine; also the sign that the actor has started."""
        return __version__

    def describe(self) -> Description | str:
        """The description of the job with its open model, or why the model cannot be opened."""
        try:
            with ExitStack() as stack:
                return describe(self._job, open_for(self._job, self._threads, stack)[0])
        except FastSamError as error:
            return str(error)

    def run(self, task: Task) -> Outcome:
        """See `ChunkWorker.run`."""
        start = perf_counter()
        try:
            if self._worker is None:
                self._worker = ChunkWorker(self._job, self._threads)
        except FastSamError as error:
            return Outcome(task.number, refused=str(error))
        outcome = self._worker.run(task, self._metrics.on_images)
        if outcome.refused is None:
            self._metrics.on_part(outcome, perf_counter() - start)
        return outcome
