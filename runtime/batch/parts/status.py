"""What an output holds and what a run is doing, from its files alone: also from another machine, also while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .locations import arrow, damaged_parquet
from .output.plan import FAILED, PARTS, existing_plan, number_of
from .output.state import RUNNING, RunState, read_state
from .output.store import Store

INTERRUPTED = "interrupted"
"""A run that says it is running, and has not said so for a minute: it was killed, or its machine is gone."""


@dataclass(frozen=True, slots=True)
class Status:
    """How far an output has come.

    Attributes:
        state: "running", "complete", "stopped", "failed" or "interrupted".
        images: that were listed.
        done: with a row, failed ones included.
        failed: with an error.
        parts: number of parts.
        chunks: number of parts when it is complete.
        size: bytes of all parts.
        images_per_s: of the last run; 0 if it has done none.
        workers: of the last run.

    Example:
        >>> Status("running", 1000, 400, 1, 4, 10, 10**6, 20.0, 2).left_s
        30.0
    """

    state: str
    images: int
    done: int
    failed: int
    parts: int
    chunks: int
    size: int
    images_per_s: float
    workers: int

    @property
    def left_s(self) -> float | None:
        """Seconds until a run ends that goes on; None if none does, or nothing is known yet."""
        if self.state != RUNNING or not self.images_per_s:
            return None
        return (self.images - self.done) / self.images_per_s

    def to_json(self) -> dict[str, Any]:
        """Plain values, for machines."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {**values, "images_per_s": round(self.images_per_s, 3), "left_s": self.left_s}

    def __str__(self) -> str:
        share = 100 * self.done / self.images if self.images else 0.0
        lines = [
            f"{self.state}: {self.done:,} of {self.images:,} images done ({share:.1f} %), {self.failed:,} failed",
            f"{self.parts:,} of {self.chunks:,} parts, {size_text(self.size)}",
        ]
        if self.images_per_s:
            workers = f"{self.workers} worker{'' if self.workers == 1 else 's'}"
            left = "" if self.left_s is None else f", {duration_text(self.left_s)} left"
            lines.append(f"{self.images_per_s:.1f} images/s with {workers}{left}")
        return "\n".join(lines)


def status_of(output: str) -> Status:
    """The status of an output.

    Args:
        output: folder or URL.

    Raises:
        FastSamError: it is no output of `fastsam batch`, or cannot be read.

    Example:
        >>> status_of("out").done  # doctest: +SKIP
        400123
    """
    store = Store(output)
    plan = existing_plan(store)
    parts = {number: file.size for file in store.files(PARTS) if (number := number_of(file.name)) is not None}
    done = sum(map(plan.size_of, parts))
    run = read_state(store) or RunState()
    return Status(
        _state(run, plan.images - done),
        plan.images,
        done,
        _failed(store, set(parts)),
        len(parts),
        plan.chunks,
        sum(parts.values()),
        run.images_per_s if run.images else 0.0,
        run.workers,
    )


def _state(run: RunState, left: int) -> str:
    return INTERRUPTED if run.state == RUNNING and not run.is_alive and left else run.state


def _failed(store: Store, done: set[int]) -> int:
    """Number of dead letters. Those of a chunk without part are of a worker that was killed before it wrote that."""
    count = 0
    for file in store.files(FAILED):
        if number_of(file.name) in done:
            with damaged_parquet(store.place(file.name)):
                count += arrow("pyarrow.parquet").read_metadata(store.open(file.name)).num_rows
    return count


def size_text(size: float) -> str:
    """A number of bytes, for people.

    Example:
        >>> size_text(1_234_567)
        '1.2 MB'
    """
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration_text(seconds: float) -> str:
    """A time, for people.

    Example:
        >>> duration_text(42), duration_text(3700)
        ('42 s', '1 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
