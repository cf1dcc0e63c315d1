"""Chunks on this machine: processes, each with a model and a stream of images, that share out the processors."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict

from ....errors import FastSamError, ParameterError
from ....system.cpu import usable_cpus
from ..job import Description, Job, describe
from .interface import Outcome, Task
from .process import ChildProcess, Message
from .rows import open_for
from .worker import ChunkWorker

_SERVE = f"{__name__}:serve"

_Event = tuple["_Worker", Message | None]
"""A worker, and what it says; None: it has ended."""


def shares_of_cpus(workers: int | None, threads: int | None, device: str = "cpu") -> tuple[int, int]:
    """Numbers of workers and of threads for each: by default one worker for each processor, with one thread.

    Args:
        workers, threads: as they were chosen; None: what fits the other one.
        device: of the network. On a GPU there is one worker by default.

    Raises:
        ParameterError: a number is below 1.

    Example:
        >>> shares_of_cpus(3, 2), shares_of_cpus(None, 1, "cuda")
        ((3, 2), (1, 1))
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise ParameterError(f"{name} is {value}, expected a whole number of 1 or more, or none")
    cpus = usable_cpus()
    if workers is None:
        workers = max(1, cpus // (threads or 1)) if device == "cpu" else 1
    return workers, threads or max(1, cpus // workers)


def processors_of_workers(workers: int, threads: int) -> list[set[int]] | None:
    """Processors for each worker alone, if workers of one thread take all that this process may use; otherwise None.

    Workers that are moved between processors find cold caches: with two, each on its own, a run is some 2 % faster.
    With several threads, which processors share a cache would have to be known, and with fewer workers than processors
    another program may need just these: then the system decides.

    Args:
        workers, threads: their number, and of the network in each.

    Example:
        >>> processors_of_workers(2, 1)  # doctest: +SKIP
        [{0}, {1}]
    """
    if threads != 1 or not hasattr(os, "sched_getaffinity"):
        return None
    processors = sorted(os.sched_getaffinity(0))
    return [{processor} for processor in processors] if workers == len(processors) == usable_cpus() else None


class LocalExecutor:
    """Processes of this machine. See `interface.Executor`.

    Attributes:
        workers: their number.
        pids: numbers of the processes that run now.

    Example:
        >>> with closing(LocalExecutor(workers=2, threads=1)) as executor:  # doctest: +SKIP
        ...     outcomes = list(executor.run(job, iter([Task(0), Task(1)]), print))
    """

    def __init__(self, workers: int, threads: int) -> None:
        """
        Args:
            workers: number of processes. They start when there are tasks for them.
            threads: of the network in each.
        """
        self.workers, self._threads = workers, threads
        self._processors = processors_of_workers(workers, threads)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    @property
    def pids(self) -> list[int]:
        return [worker.child.pid for worker in (*self._idle, *self._busy)]

    def describe(self, job: Job) -> Description:
        """See `Executor.describe`. The model is opened in this process, and closed."""
        with ExitStack() as stack:
            return describe(job, open_for(job, self._threads, stack)[0])

    def run(self, job: Job, tasks: Iterator[Task], on_images: Callable[[int], None]) -> Iterator[Outcome]:
        """See `Executor.run`."""
        try:
            while True:
                while len(self._busy) < self.workers and (task := next(tasks, None)) is not None:
                    self._give(job, task)
                if not self._busy:
                    return
                outcome = self._next_outcome(on_images)
                if outcome is not None:
                    yield outcome
        finally:
            if self._busy:  # left by the caller
                self.close()

    def close(self) -> None:
        """See `Executor.close`."""
        workers, self._idle, self._busy = [*self._idle, *self._busy], [], []
        for worker in workers:
            worker.child.close()

    def _give(self, job: Job, task: Task) -> None:
        worker = self._idle.pop() if self._idle else self._started(job)
        worker.task = task
        self._busy.append(worker)
        worker.child.send(asdict(task))

    def _started(self, job: Job) -> _Worker:
        """A further worker, on processors that no other one has."""
        if self._processors is None:
            return _Worker(job, self._threads, self._events, None)
        taken = [worker.processors for worker in self._busy]
        free = next(processors for processors in self._processors if processors not in taken)
        return _Worker(job, self._threads, self._events, free)

    def _next_outcome(self, on_images: Callable[[int], None]) -> Outcome | None:
        """Wait for what a worker says. None unless it ends a task."""
        worker, message = self._events.get()
        if worker not in self._busy:  # one that ended while it had nothing to do, or that was closed
            self._idle = [other for other in self._idle if other is not worker]
            return None
        if message is not None and "images" in message:
            on_images(message["images"])
            return None
        self._busy.remove(worker)
        if message is None:
            how = worker.child.how_it_ended()
            worker.child.close()
            return Outcome(worker.number, died=how)
        self._idle.append(worker)
        return Outcome(**message["outcome"])


class _Worker:
    """A process and what it works on."""

    def __init__(self, job: Job, threads: int, events: queue.SimpleQueue[_Event], processors: set[int] | None) -> None:
        self.child, self.processors = ChildProcess(_SERVE, job, threads), processors
        if processors is not None:
            with suppress(OSError):  # it has ended already, or the system forbids it: it is a matter of speed only
                os.sched_setaffinity(self.child.pid, processors)
        self.task: Task | None = None
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    @property
    def number(self) -> int:
        """Of its chunk."""
        assert self.task is not None
        return self.task.number

    def _listen(self, events: queue.SimpleQueue[_Event]) -> None:
        try:
            for message in self.child.messages():
                events.put((self, message))
        except ValueError:  # closed while it was read
            pass
        finally:
            events.put((self, None))


def serve(job: Job, threads: int | None, requests: Iterator[Message], answer: Callable[[Message], None]) -> None:
    """The worker's side.

    Example:
        >>> ChildProcess(f"{__name__}:serve", job, threads=1)  # doctest: +SKIP
    """

    def on_images(count: int) -> None:
        answer({"images": count})

    try:
        with ChunkWorker(job, threads) as worker:
            for request in requests:
                outcome = worker.run(Task(**request), on_images)
                answer({"outcome": asdict(outcome)})
    except FastSamError as error:  # before any task
        request = next(requests)
        answer({"outcome": asdict(Outcome(request["number"], refused=str(error)))})
