"""Workers on one machine: who has which processors."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from fastsam_deploy.runtime.batch.parts.execution.local import LocalExecutor, processors_of_workers
from fastsam_deploy.runtime.batch.parts.job import Job
from fastsam_deploy.runtime.batch.parts.output.store import Store
from fastsam_deploy.runtime.batch.parts.planning import Cut, planned
from fastsam_deploy.runtime.batch.parts.run import run_chunks
from fastsam_deploy.runtime.batch.parts.sources.search import source_images
from fastsam_deploy.runtime.opening import ModelSettings
from fastsam_deploy.runtime.system.cpu import usable_cpus
from tests.batch_runs import write_photographs

pytest.importorskip("pyarrow", reason="the extra [batch]")
if not hasattr(os, "sched_getaffinity"):
    pytest.skip("this system has no affinities", allow_module_level=True)


def test_each_worker_has_a_processor_if_they_take_all(tmp_path: Path) -> None:
    """Seen on the workers of a run, one of them started again after a kill."""
    workers = usable_cpus()
    if not 2 <= workers == len(os.sched_getaffinity(0)) <= 4:
        pytest.skip("needs two to four processors, without a limit of time on them")
    write_photographs(tmp_path / "photos", 8 * workers)
    job = Job(str(tmp_path / "out"), settings=ModelSettings.from_keywords(imgsz=64))
    seen: list[list[set[int]]] = []
    killed: list[int] = []
    with closing(LocalExecutor(workers, 1)) as executor:

        def look(_: object) -> None:
            seen.append([os.sched_getaffinity(pid) for pid in executor.pids])
            if not killed and len(executor.pids) == workers:
                killed.append(executor.pids[0])
                os.kill(killed[0], 9)

        plan = planned(
            Store(job.output), "photos", source_images(str(tmp_path / "photos")), executor.describe(job), Cut(2)
        )
        assert run_chunks(job, plan, executor, on_progress=look).left == 0
        assert killed and killed[0] not in executor.pids
        assert sorted(map(sorted, (os.sched_getaffinity(pid) for pid in executor.pids))) == [
            [processor] for processor in sorted(os.sched_getaffinity(0))
        ]
    assert all(len(processors) == 1 for worker in seen for processors in worker)


def test_fewer_workers_and_more_threads_are_left_to_the_system() -> None:
    processors = len(os.sched_getaffinity(0))
    assert processors_of_workers(processors + 1, 1) is None
    assert processors_of_workers(processors, 2) is None
    if processors > 1:
        assert processors_of_workers(1, 1) is None
