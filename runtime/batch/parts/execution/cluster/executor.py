"""Hands out the chunks of a run to actors, and replaces those that die."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

from ..... import __version__
from .....errors import FastSamError
from ...job import Description, Job
from ..interface import Outcome, Task
from .actor import ChunkActor
from .connection import connect
from .settings import ClusterSettings

PATIENCE_S = 600.0
"""So long a first worker may wait for a place: a cluster that grows needs minutes for a machine."""

_TICK_S = 1.0
_MOST_FAILED_STARTS = 10
_LONGEST_REASON = 300


class RayExecutor:
    """Actors of a Ray cluster. See `interface.Executor`.

    As many actors as allowed are asked for at once. Those that have a place work; the others wait, which tells the
    autoscaler of the cluster what is needed. When nothing is left to hand out, actors without work are given back.

    Attributes:
        workers: their number, at most.

    Example:
        >>> with closing(RayExecutor(ClusterSettings("local", most=2))) as executor:  # doctest: +SKIP
        ...     outcomes = list(executor.run(job, iter([Task(0), Task(1)]), print))
    """

    def __init__(self, settings: ClusterSettings, actor: type = ChunkActor) -> None:
        """
        Args:
            settings: where the cluster is.
            actor: what actors are made of.

        Raises:
            MissingDependencyError, FastSamError: as `connect` does.
        """
        self._settings, self._class = settings, actor
        self._ray = connect(settings.address)
        self.workers = settings.most or max(settings.least, settings.places(self._ray.cluster_resources()))
        self._starting: dict[Any, Any] = {}  # reference to its version → actor
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Task]] = {}  # reference to an outcome → actor, its task
        self._job: Job | None = None
        self._failed_starts = 0

    def describe(self, job: Job) -> Description:
        """See `Executor.describe`. The actor that does it works on chunks later."""
        self._take(job)
        end_s = monotonic() + PATIENCE_S
        while True:
            actor = self._first(end_s)
            try:
                described: Description | str = self._ray.get(actor.describe.remote())
                break
            except self._ray.exceptions.RayError as error:
                self._idle.remove(actor)
                self._failed(error)
        if isinstance(described, str):
            raise FastSamError(described)
        self._failed_starts = 0
        return described

    def _first(self, end_s: float) -> Any:
        """An actor that has started."""
        while not self._idle:
            if not self._starting:
                self._start()
            self._wait()
            if monotonic() > end_s:
                raise FastSamError(
                    f"--ray: no machine has had a place for a worker for {PATIENCE_S:g} s; a worker asks for "
                    f"{self._settings.resources}, the cluster has {self._ray.cluster_resources()}; ask for less"
                )
        return self._idle[-1]

    def run(self, job: Job, tasks: Iterator[Task], on_images: Callable[[int], None]) -> Iterator[Outcome]:
        """See `Executor.run`."""
        self._take(job)
        try:
            while self._hand_out(tasks) or self._busy:
                on_images(0)
                for outcome in self._wait():
                    on_images(outcome.images)
                    yield outcome
        finally:
            for actor, _ in self._busy.values():  # left by the caller
                self._ray.kill(actor)
            self._busy.clear()

    def close(self) -> None:
        """See `Executor.close`. Leaves the cluster."""
        if self._ray.is_initialized():
            self._take(None)
            self._ray.shutdown()

    def _take(self, job: Job | None) -> None:
        """Give back the actors of another job."""
        if job != self._job:
            self._give_back(0)
            for actor, _ in self._busy.values():
                self._ray.kill(actor)
            self._busy.clear()
        self._job = job

    def _hand_out(self, tasks: Iterator[Task]) -> bool:
        """Give tasks to idle actors, and ask for more actors. Whether there may be further tasks."""
        while self._idle:
            task = next(tasks, None)
            if task is None:
                self._give_back(max(0, self._settings.least - len(self._busy)))
                return False
            actor = self._idle.pop()
            self._busy[actor.run.remote(task)] = actor, task
        while len(self._starting) + len(self._busy) < self.workers:
            self._start()
        return True

    def _start(self) -> None:
        remote = self._ray.remote(**self._settings.resources, max_restarts=0, max_task_retries=0)(self._class)
        actor = remote.remote(self._job, self._settings.cpus, str(Path.cwd()))
        self._starting[actor.version.remote()] = actor

    def _give_back(self, kept: int) -> None:
        """End actors without work, those without a place first."""
        for actor in self._starting.values():
            self._ray.kill(actor)
        self._starting.clear()
        while len(self._idle) > kept:
            self._ray.kill(self._idle.pop())

    def _wait(self) -> list[Outcome]:
        """Wait a moment for what actors say; the outcomes among that."""
        waiting = [*self._starting, *self._busy]
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(waiting, num_returns=1, timeout=_TICK_S)
        outcomes = []
        for reference in ready:
            if reference in self._starting:
                self._started(reference)
            else:
                outcomes.append(self._ended(reference))
        return outcomes

    def _started(self, reference: Any) -> None:
        actor = self._starting.pop(reference)
        try:
            version = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._failed(error)
            return
        if version != __version__:
            raise FastSamError(
                f"--ray: a machine of the cluster has version {version} of fastsam-deploy, expected {__version__} as "
                "here; install the same one on every machine"
            )
        self._idle.append(actor)

    def _failed(self, error: Exception) -> None:
        """An actor has ended before its first chunk: perhaps its machine was taken away, perhaps all will."""
        self._check_connection(error)
        self._failed_starts += 1
        if self._failed_starts >= _MOST_FAILED_STARTS:
            raise FastSamError(
                f"--ray: {self._failed_starts} workers in a row have ended before their first part ({_reason(error)}); "
                "expected this package, the same versions of Python and Ray, and memory on every machine of the cluster"
            ) from error

    def _ended(self, reference: Any) -> Outcome:
        """The outcome of a task, whose actor is idle now, or dead."""
        actor, task = self._busy.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._check_connection(error)
            self._ray.kill(actor)  # it may still be there: the task has failed, or nobody reaches it
            return Outcome(task.number, died=_reason(error))
        self._failed_starts = 0
        self._idle.append(actor)
        return outcome

    def _check_connection(self, error: Exception) -> None:
        lost = self._ray.exceptions
        if isinstance(error, (lost.LocalRayletDiedError, lost.RaySystemError)):
            raise FastSamError(
                f"--ray: the cluster is lost ({_reason(error)}); what is done stays; run the same command again"
            ) from error


def _reason(error: BaseException) -> str:
    """Why an actor ended, in one line.

    Example:
        >>> _reason(RuntimeError("The actor died because its node has died. Node Id: 3f\\n more"))
        'The actor died because its node has died. Node Id: 3f more'
    """
    text = " ".join((str(error) or type(error).__name__).split())
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"
