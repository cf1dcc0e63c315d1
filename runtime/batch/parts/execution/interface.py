"""The interface of what runs chunks. `local.LocalExecutor` implements it with processes of this machine.

A run calls `describe` once, then `run` one or more times, then `close`. What an executor has to do:

- **Hand out tasks.** `tasks` is read lazily: only when a worker is free (or a few ahead). It ends early when the user
  stops the run: then finish the chunks that are under way and return.
- **Work.** A worker is a process that holds one `worker.ChunkWorker(job)`, made once. For each task it calls
  `ChunkWorker.run(task)`, which reads the chunk from the listing in the output, segments it, writes the part itself and
  returns an `Outcome` of plain numbers. No image and no result travels through the driver.
- **Tell of deaths.** If a worker dies (SIGKILL, out of memory, a crash of a decoder, a node that is gone), yield
  `Outcome(task.number, died="why")` for its task, and go on with a new worker. The run calls `run` again at the end
  with these tasks as `Task(number, alone=True)`: the chunk's images are then segmented one by one in a child of the
  worker, so that the one that kills becomes a row with an error and not the end of the worker.
- **Never retry a task by itself**, and never decide that a chunk is done: it is if its part is there. To run a chunk
  twice, even at the same time, does no harm: both write the same bytes under the same name.
- **End with the driver.** Workers end when the driver is gone, and at `close`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ..job import Description, Job


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk for a worker.

    Attributes:
        number: of the chunk.
        alone: segment its images one by one, each in a child process that may die.

    Example:
        >>> Task(3).alone
        False
    """

    number: int
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task. If neither `died` nor `refused` is given, the part is written.

    Attributes:
        number: of the chunk.
        images: rows of the part.
        failed: those of them with an error.
        size: bytes of the part.
        died: how the worker ended, in words; the chunk has no part.
        refused: why no chunk can be done: the disk is full, the model cannot be opened, … The run ends with this
            message.

    Example:
        >>> Outcome(3, images=256, failed=1, size=4_000_000).died is None
        True
    """

    number: int
    images: int = 0
    failed: int = 0
    size: int = 0
    died: str | None = None
    refused: str | None = None


class Executor(Protocol):
    """Runs chunks, wherever its workers are. See the module for what is expected.

    Example:
        >>> with closing(LocalExecutor(workers=2, threads=1)) as executor:  # doctest: +SKIP
        ...     for outcome in executor.run(job, iter([Task(0), Task(1)]), print):
        ...         print(outcome.number, outcome.images)
    """

    @property
    def workers(self) -> int:
        """How many chunks are under way at once, at most."""
        ...

    def describe(self, job: Job) -> Description:
        """Open the model where workers open it, and describe it.

        Raises:
            FastSamError: it cannot be opened.
        """
        ...

    def run(self, job: Job, tasks: Iterator[Task], on_images: Callable[[int], None]) -> Iterator[Outcome]:
        """Run tasks.

        Args:
            job: the plan and the listing of which are stored in its output.
            tasks: read lazily.
            on_images: called in the thread of the caller, with a number of images that were segmented since the last
                call, as often as is convenient. For the progress bar: images of a worker that dies later count twice.

        Yields:
            One outcome for each task, in any order, as soon as it is known. Leaving the loop ends the workers.
        """
        ...

    def close(self) -> None:
        """End the workers. A second call does nothing."""
        ...
