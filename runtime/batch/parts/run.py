"""A run: hands the chunks that are left to an executor, until all parts are there."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from time import monotonic

from ...errors import FastSamError
from .execution.interface import Executor, Outcome, Task
from .job import Job
from .output.plan import Plan
from .output.state import COMPLETE, EVERY_S, FAILED, STOPPED, RunState, read_state, write_state
from .output.store import Store
from .planning import done_numbers

_ROUNDS = 4
"""A chunk whose worker dies as often as this, though its images were alone, ends the run."""

_SOON_S = 1.0
"""So long after a chunk was handed out, its number is in the state of the run."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come.

    Attributes:
        total: images of the output.
        before: of them done by earlier runs.
        state: of this run.

    Example:
        >>> Progress(10, 4, RunState(images=3)).left
        3
    """

    total: int
    before: int
    state: RunState

    @property
    def left(self) -> int:
        """Images without a row yet."""
        return self.total - self.before - self.state.images


def run_chunks(
    job: Job,
    plan: Plan,
    executor: Executor,
    *,
    on_start: Callable[[Progress], object] = lambda _: None,
    on_images: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Progress:
    """Run all chunks that have no part yet.

    Args:
        job: what is done with each image.
        plan: is stored in the output of the job.
        executor: runs the chunks. It stays open.
        on_start: gets what earlier runs have done.
        on_images: gets a number of further images, often.
        on_progress: is called after each chunk.
        stopping: asked before each chunk; True: finish those that are under way, and return.

    Returns:
        The progress at the end; nothing is left unless the run was stopped.

    Raises:
        FastSamError: no chunk can be done, for the reason that the message says. What is done stays.

    Example:
        >>> with closing(LocalExecutor(2, 1)) as executor:  # doctest: +SKIP
        ...     run_chunks(job, plan, executor).left
        0
    """
    store = Store(job.output)
    done = done_numbers(store)
    todo = [number for number in plan.numbers() if number not in done]
    before = plan.images - sum(map(plan.size_of, todo))
    run = _Run(store, plan.images, before, executor.workers)
    earlier = read_state(store)
    # Chunks that were under way when a run was killed: perhaps one of their images has killed it.
    suspects = set(earlier.in_flight) if earlier is not None else set()
    tasks = [Task(number, alone=number in suspects) for number in todo]
    on_start(run.progress)
    if not tasks:
        return run.progress
    run.write()
    try:
        for _ in range(_ROUNDS):
            dead = run.round(executor, job, tasks, on_images, on_progress, stopping)
            if not dead or stopping():
                break
            tasks = [Task(outcome.number, alone=True) for outcome in dead]
        else:
            raise FastSamError(
                f"{job.output}: the workers of chunks {', '.join(str(task.number) for task in tasks[:3])} have ended "
                f"{_ROUNDS} times ({dead[0].died}); expected them to last, as each image had a process of its own; "
                "look for what ends them, such as a limit on memory, and run the same command again"
            )
    except BaseException as error:
        run.end(FAILED if isinstance(error, Exception) else STOPPED)
        raise
    run.end(STOPPED if run.progress.left else COMPLETE)
    return run.progress


class _Run:
    """Keeps the state of a run, and writes it now and then."""

    def __init__(self, store: Store, total: int, before: int, workers: int) -> None:
        self._store, self._total, self._before = store, total, before
        self._state = RunState().begun(workers)
        self._in_flight: set[int] = set()
        self._written_s, self._is_told = monotonic(), True

    @property
    def progress(self) -> Progress:
        return Progress(self._total, self._before, self._state)

    def round(
        self,
        executor: Executor,
        job: Job,
        tasks: Sequence[Task],
        on_images: Callable[[int], None],
        on_progress: Callable[[Progress], None],
        stopping: Callable[[], bool],
    ) -> list[Outcome]:
        """Run tasks once. The outcomes of those whose workers died."""

        def handed_out() -> Iterator[Task]:
            for task in tasks:
                if stopping():
                    return
                self._in_flight.add(task.number)
                self._is_told = False
                yield task

        def on_some(count: int) -> None:
            on_images(count)
            if monotonic() - self._written_s > (EVERY_S if self._is_told else _SOON_S):
                self.write()

        dead = []
        with closing(_closable(executor.run(job, handed_out(), on_some))) as outcomes:
            for outcome in outcomes:
                self._in_flight.discard(outcome.number)
                if outcome.refused is not None:
                    raise FastSamError(outcome.refused)
                if outcome.died is not None:
                    dead.append(outcome)
                    continue
                self._state = self._state.changed(
                    images=self._state.images + outcome.images,
                    failed=self._state.failed + outcome.failed,
                    size=self._state.size + outcome.size,
                )
                on_progress(self.progress)
        return dead

    def write(self) -> None:
        """Store the state."""
        self._state = self._state.changed(in_flight=tuple(sorted(self._in_flight)))
        write_state(self._store, self._state)
        self._written_s, self._is_told = monotonic(), True

    def end(self, state: str) -> None:
        """Store the last state: nothing is under way any more."""
        self._in_flight.clear()
        self._state = self._state.changed(state=state, in_flight=())
        write_state(self._store, self._state)


def _closable(outcomes: Iterator[Outcome]) -> Generator[Outcome, None, None]:
    """The same as a generator, which `closing` can close."""
    yield from outcomes
