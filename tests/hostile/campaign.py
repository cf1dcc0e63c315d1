"""Many inputs in children with limits. A child that crashes or hangs is replaced, and goes on behind the input."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile.boundaries import BOUNDARIES
from tests.hostile.child import PROGRESS
from tests.hostile.jobs import Job

ROOT = Path(__file__).resolve().parents[2]
_START_S = 120.0
_MOST_FAULTS = 1000


@dataclass
class Outcome:
    """What was seen at one boundary.

    Attributes:
        cases: inputs that were read.
        kinds: kind of the error, or "read" → how often.
        faults: (input, what is wrong with the way it was met).
    """

    cases: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[bytes, str]] = field(default_factory=list)


def run(jobs: list[Job]) -> dict[str, Outcome]:
    """Do the jobs. Outcomes by the names of the boundaries."""
    outcomes: dict[str, Outcome] = {job.boundary: Outcome() for job in jobs}
    while jobs:
        jobs = _run_child(jobs, outcomes)
        if sum(len(outcome.faults) for outcome in outcomes.values()) > _MOST_FAULTS:
            break
    return outcomes


def _run_child(jobs: list[Job], outcomes: dict[str, Outcome]) -> list[Job]:
    """What is left to do after the child has ended."""
    with tempfile.NamedTemporaryFile() as progress:
        progress.write(PROGRESS.pack(0, -1))
        progress.flush()
        command = [sys.executable, "-m", "tests.hostile.child", json.dumps(jobs), progress.name]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            hung = False
            for line in _lines(child, jobs, Path(progress.name)):
                if line is None:
                    hung = True
                    child.kill()
                else:
                    _note(json.loads(line), jobs, outcomes)
        number, index = PROGRESS.unpack(Path(progress.name).read_bytes())
    if child.returncode == 0:
        return []
    job = jobs[number]
    if index < 0:
        raise RuntimeError(f"{job.boundary}: the child ended before its first input ({child.returncode})")
    how = "does not end" if hung else f"ends the process ({child.returncode})"
    outcomes[job.boundary].cases += index + 1 - job.first
    outcomes[job.boundary].faults.append((job.content(index), how))
    return [job._replace(first=index + 1), *jobs[number + 1 :]]


def _note(said: dict[str, object], jobs: list[Job], outcomes: dict[str, Outcome]) -> None:
    job = jobs[int(str(said["job"]))]
    outcome = outcomes[job.boundary]
    if "fault" in said:
        outcome.faults.append((job.content(int(str(said["index"]))), str(said["fault"])))
    else:
        outcome.cases += job.last - job.first
        outcome.kinds.update(said["outcomes"])  # type: ignore[arg-type]


def _lines(child: subprocess.Popen[bytes], jobs: list[Job], progress: Path) -> Iterator[str | None]:
    """The lines of a child; None where an input has taken far too long on the clock."""
    assert child.stdout is not None
    seen, since, waiting = b"", time.monotonic(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(1.0):
                part = os.read(child.stdout.fileno(), 1 << 16)
                if not part:
                    return
                *lines, waiting = (waiting + part).split(b"\n")
                yield from (line.decode() for line in lines)
            now = progress.read_bytes()
            number, index = PROGRESS.unpack(now)
            patience_s = 10 * BOUNDARIES[jobs[number].boundary].seconds + (_START_S if index < 0 else 0)
            if now != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > patience_s:
                yield None


def kind_of(fault: str) -> str:
    """The same text for faults of one kind."""
    head, _, place = fault.rpartition("|")
    words = "".join("N" if letter.isdigit() else letter for letter in (head or place).split(":")[0])
    return f"{words} at{place}" if head else words
