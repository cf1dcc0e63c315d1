"""A run of `fastsam batch` from its start to its summary. Heavy libraries are imported by the functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..errors import FastSamError

if TYPE_CHECKING:
    from rich.console import Console

    from ..batch.parts.execution.interface import Executor
    from ..batch.parts.job import Job
    from ..batch.parts.planning import Cut
    from ..batch.parts.run import Progress

LINE_EVERY_S = 30.0
"""Where no bar is shown, a line says so often how far the run has come."""


def run_job(job: Job, source: str, executor: Executor, cut: Cut, console: Console, retry_failed: bool) -> None:
    """List the source, run what is left, and say what was done.

    Raises:
        FastSamError: the run cannot go on, or all images failed.
        SystemExit: it was stopped by a signal.

    Example:
        >>> run_job(job, "photos", executor, Cut(), open_console(stderr=True), retry_failed=False)  # doctest: +SKIP
    """
    from ..batch.console import progress_bar, say
    from ..batch.parts.output.store import Store
    from ..batch.parts.planning import forget_failed, planned
    from ..batch.parts.run import run_chunks
    from ..batch.parts.sources.search import source_images
    from ..system.signals import stop_on_signals

    store, signals = Store(job.output), list[int]()
    with only_writer(store):
        description = executor.describe(job)
        plan = planned(store, source, source_images(source, job.output), description, cut)
        if retry_failed:
            forget_failed(store)
        lines = _Lines(console)

        def start(progress: Progress) -> None:
            advance(progress.before)
            lines.start(progress)

        def stop(number: int) -> None:
            signals.append(number)
            say(console, "fastsam: finishing the parts that are under way; once more to stop at once")

        with stop_on_signals(stop), progress_bar(console, plan.images) as advance:
            progress = run_chunks(
                job,
                plan,
                executor,
                on_start=start,
                on_images=advance,
                on_progress=lines.show,
                stopping=lambda: bool(signals),
            )
    _summary(progress, job.output, console)
    if signals and progress.left:
        raise SystemExit(128 + signals[0])


@contextmanager
def only_writer(store: Any) -> Iterator[None]:
    """Refuse a second run into a folder of this machine while the block lasts.

    Raises:
        FastSamError: another process runs into it.

    Example:
        >>> with only_writer(Store("s3://bucket/out")):  # doctest: +SKIP
        ...     ...
    """
    from ..system.atomic import os_errors_as
    from ..system.locks import open_locked

    if store.folder is None:
        yield
        return
    with os_errors_as(FastSamError, store.folder):
        store.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = open_locked(store.folder / ".lock")
        except FileExistsError as error:
            raise FastSamError(
                f"{store.folder}: another run writes to it; wait for its end, or choose another --output"
            ) from error
    with lock:
        yield


class _Lines:
    """A line now and then, where no bar is shown."""

    def __init__(self, console: Console) -> None:
        self._console, self._next_s = console, monotonic() + LINE_EVERY_S

    def start(self, progress: Progress) -> None:
        from ..batch.console import say

        if progress.before:
            say(self._console, f"fastsam: {progress.before:,} of {progress.total:,} images are done already")

    def show(self, progress: Progress) -> None:
        """Print a line if the last one is some time ago."""
        from ..batch.console import say
        from ..batch.parts.status import duration_text

        if self._console.is_terminal or monotonic() < self._next_s:
            return
        self._next_s = monotonic() + LINE_EVERY_S
        state = progress.state
        rate = state.images_per_s
        left = f", {duration_text(progress.left / rate)} left" if rate else ""
        done = progress.before + state.images
        say(
            self._console,
            f"fastsam: {done:,} of {progress.total:,} images, {state.failed:,} failed, {rate:.1f}/s{left}",
        )


def _summary(progress: Progress, output: str, console: Console) -> None:
    from ..batch.console import say
    from ..batch.parts.status import size_text

    state = progress.state
    left = f", {progress.left:,} left" if progress.left else ""
    letters = f"; dead letters: {output.rstrip('/')}/failed" if state.failed else ""
    done = f"{state.images - state.failed:,} done, {state.failed:,} failed, {progress.before:,} were done before"
    say(console, f"fastsam: {done}{left} → {output} ({size_text(state.size)}){letters}")
    if state.failed and state.failed == progress.total:
        raise FastSamError(f"all {progress.total:,} images failed; see {output.rstrip('/')}/failed")
