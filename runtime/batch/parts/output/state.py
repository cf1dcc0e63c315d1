"""How far a run has come, written every few seconds for whoever asks. The parts alone say what is done."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from time import time
from typing import Any

from ....documents import Fields, dump, parse
from ....errors import FastSamError
from .store import Store

STATE = "state.json"
EVERY_S = 10.0

RUNNING, COMPLETE, STOPPED, FAILED = "running", "complete", "stopped", "failed"
"""What a run can be; a run that was killed stays "running" and is no longer updated."""


@dataclass(frozen=True, slots=True)
class RunState:
    """A run, seen from its driver.

    Attributes:
        state: see above.
        host, pid: of the driver.
        started_s, updated_s: seconds since 1970.
        images: that this run has done, without those of earlier runs.
        failed: those of them that failed.
        size: bytes of the parts that it has written.
        workers: their number.
        in_flight: numbers of the chunks that are under way.

    Example:
        >>> RunState().begun(workers=2).state
        'running'
    """

    state: str = STOPPED
    host: str = ""
    pid: int = 0
    started_s: float = 0.0
    updated_s: float = 0.0
    images: int = 0
    failed: int = 0
    size: int = 0
    workers: int = 0
    in_flight: tuple[int, ...] = ()

    def begun(self, workers: int) -> RunState:
        """The state of a run of this process that begins now."""
        now = time()
        return RunState(RUNNING, socket.gethostname(), os.getpid(), now, now, workers=workers)

    def changed(self, **values: Any) -> RunState:
        """A copy with other values, updated now."""
        return replace(self, updated_s=time(), **values)

    @property
    def images_per_s(self) -> float:
        """Images per second since the run began."""
        seconds = self.updated_s - self.started_s
        return self.images / seconds if seconds > 0 else 0.0

    @property
    def is_alive(self) -> bool:
        """Whether the run goes on, as far as can be told from when its state was last written."""
        return self.state == RUNNING and time() - self.updated_s < 6 * EVERY_S


def write_state(store: Store, state: RunState) -> None:
    """Write the state. That it cannot be written, as on a full disk, is no reason to stop.

    Example:
        >>> write_state(Store("out"), RunState())  # doctest: +SKIP
    """
    with suppress(FastSamError):
        store.write(STATE, (dump(asdict(state)) + "\n").encode())


def read_state(store: Store) -> RunState | None:
    """The state of the last run; None if there is none, or none that can be read.

    Example:
        >>> read_state(Store("no-such-folder")) is None
        True
    """
    try:
        fields = Fields(parse(store.read(STATE)), "the state")
        values: dict[str, Any] = {name: fields.text(name) for name in ("state", "host")}
        values |= {name: fields.whole(name, 0, 2**62) for name in ("pid", "images", "failed", "size", "workers")}
        values |= {name: fields.number(name) for name in ("started_s", "updated_s")}
        return RunState(**values, in_flight=tuple(map(int, fields.items("in_flight", 2**20))))
    except (FileNotFoundError, FastSamError, TypeError, ValueError):
        return None
