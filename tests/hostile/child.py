"""A process that reads many inputs, and says which of them were met by anything but an error of ours.

    python -m tests.hostile.child JOBS PROGRESS_FILE

The numbers of the job and of the input stand in the progress file, so that the parent knows them after a crash. Faults
are lines of JSON on standard output.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.errors import FastSamError
from tests.hostile.boundaries import BOUNDARIES
from tests.hostile.boundary import Boundary
from tests.hostile.jobs import Job

PROGRESS = struct.Struct("<qq")
_LONGEST_MESSAGE = 4000


def fault_of(boundary: Boundary, content: bytes) -> tuple[str | None, str]:
    """(what is wrong, the kind of the outcome); None if the input was read, or refused as it should be."""
    start_s, before = time.process_time(), _peak_bytes()
    fault, outcome = None, "read"
    try:
        boundary.read(content)
    except FastSamError as error:
        outcome = type(error).__name__
        if len(str(error)) > _LONGEST_MESSAGE:
            fault = f"a message of {len(str(error))} characters"
        if any(isinstance(cause, MemoryError) for cause in _causes(error)):
            fault = f"asks for more than {boundary.memory_bytes / 1e6:.0f} MB"
    except MemoryError:
        fault = outcome = "MemoryError"
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is not ours
        outcome = type(error).__name__
        fault = f"{outcome}: {str(error)[:200]} | {_where(error)}"
    seconds, grown = time.process_time() - start_s, _peak_bytes() - before
    if fault is None and seconds > boundary.seconds:
        fault = f"takes {seconds:.1f} s, {boundary.seconds} are allowed"
    if fault is None and grown > boundary.memory_bytes:
        fault = f"takes {grown / 1e6:.0f} MB, {boundary.memory_bytes / 1e6:.0f} are allowed"
    return fault, outcome


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "fastsam_deploy" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _limit_memory(boundary: Boundary) -> None:
    """Twice what one input may take, and something for what libraries keep."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + 2 * boundary.memory_bytes + 300_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


def _read_seeds(boundary: Boundary) -> None:
    """Open what is opened once, before memory is limited and time is taken."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for content in boundary.seeds:
        with contextlib.suppress(FastSamError):
            boundary.read(content)


def main(jobs: list[Job], progress_file: Path) -> None:
    """Do the jobs, one after the other."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print
    os.dup2(1, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with progress_file.open("r+b") as file, mmap.mmap(file.fileno(), PROGRESS.size) as progress:
        for number, job in enumerate(jobs):
            progress[:] = PROGRESS.pack(number, -1)
            for said in _done(BOUNDARIES[job.boundary], job, number, progress):
                print(json.dumps({"job": number, **said}), file=answers, flush=True)


def _done(boundary: Boundary, job: Job, number: int, progress: mmap.mmap) -> Iterator[dict[str, Any]]:
    """Read the inputs of a job; its faults, and how often each outcome was seen."""
    _read_seeds(boundary)
    _limit_memory(boundary)
    outcomes: Counter[str] = Counter()
    for index in range(job.first, job.last):
        content = job.content(index)
        progress[:] = PROGRESS.pack(number, index)
        fault, outcome = fault_of(boundary, content)
        outcomes[outcome] += 1
        if fault is not None:
            yield {"index": index, "fault": fault}
    yield {"outcomes": outcomes}


if __name__ == "__main__":
    main([Job(*words) for words in json.loads(sys.argv[1])], Path(sys.argv[2]))
