"""What Ray costs over processes of this machine, and how many chunks its driver can hand out.

    python -m benchmarks.batch_ray overhead     # both in turn, a wait of 100 ms in place of the network
    python -m benchmarks.batch_ray driver       # 64 actors that only wait: chunks a second, until no more go through

Both write benchmarks/results/batch_ray.json, each its own part. The first one is the whole work but for the network:
images are read, decoded and hashed, masks are encoded, parts are written. The start of Ray is given apart: it does not
grow with the work. In the second one no image is read: what remains is the driver, its connections, and the few
processors of this machine for 64 actors, where a cluster has many.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fastsam_deploy.runtime import FastSAM
from fastsam_deploy.runtime.batch.parts.execution.cluster.executor import RayExecutor
from fastsam_deploy.runtime.batch.parts.execution.cluster.settings import LOCAL, ClusterSettings
from fastsam_deploy.runtime.batch.parts.execution.interface import Executor, Outcome, Task
from fastsam_deploy.runtime.batch.parts.execution.local import LocalExecutor
from fastsam_deploy.runtime.batch.parts.job import Job
from fastsam_deploy.runtime.batch.parts.output.store import Store
from fastsam_deploy.runtime.batch.parts.planning import Cut, planned
from fastsam_deploy.runtime.batch.parts.run import run_chunks
from fastsam_deploy.runtime.batch.parts.sources.search import source_images
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.settings import EngineSettings
from fastsam_deploy.runtime.spec import ModelSpec
from fastsam_deploy.runtime.weights.demo import demo_model_path

from .photographs import RESULTS, ROOT, as_json, processor

FILE = RESULTS / "batch_ray.json"
WORKERS = 64
WAITS_S = (1.0, 0.3, 0.1, 0.03, 0.01)
SECONDS = 10.0


class WaitingEngine:
    """A small network after a wait."""

    def __init__(self, engine: Any, wait_s: float) -> None:
        self._engine, self._wait_s = engine, wait_s

    @property
    def spec(self) -> ModelSpec:
        spec: ModelSpec = self._engine.spec
        return spec

    @property
    def device(self) -> str:
        return str(self._engine.device)

    @property
    def description(self) -> dict[str, Any]:
        return dict(self._engine.description)

    def run(self, images: NDArray[Any]) -> dict[str, NDArray[Any]]:
        time.sleep(self._wait_s)
        outputs: Mapping[str, NDArray[Any]] = self._engine.run(images)
        return dict(outputs)

    def close(self) -> None:
        self._engine.close()


@dataclass(frozen=True)
class WaitingJob(Job):
    """A job whose network is a wait, before a network so small that it costs next to nothing."""

    wait_s: float = 0.1

    def open_model(self, threads: int | None) -> FastSAM:
        engine = open_engine(demo_model_path(), EngineSettings(threads=threads))
        return FastSAM(WaitingEngine(engine, self.wait_s), imgsz=64)


class WaitingActor:
    """In place of `ChunkActor`: a chunk is a wait, of as many microseconds as its number says."""

    def __init__(self, _job: Job, _threads: int, _folder: str) -> None: ...

    def version(self) -> str:
        from fastsam_deploy.runtime import __version__

        return __version__

    def run(self, task: Task) -> Outcome:
        time.sleep(task.number / 1e6)
        return Outcome(task.number, images=1, size=1)


def main() -> None:
    """Measure a part, and put it beside the other one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["overhead", "driver"])
    parser.add_argument("--images", type=int, default=320, help="of a round of the overhead")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    # Ray makes its workers yield (nice 15); where other programs run beside the measurement, that alone would count.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # for the workers
    measure = {"overhead": partial(overhead, arguments.images, arguments.rounds), "driver": partial(driver, WORKERS)}
    part = measure[arguments.part]()
    report = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    report[arguments.part] = {"environment": _environment(), **part}
    FILE.write_bytes(as_json(report))
    print(json.dumps(part, indent=1))


def _environment() -> dict[str, Any]:
    load = os.getloadavg()[0]
    machine = {"cpu": processor(), "processors": os.cpu_count(), "load_of_others": round(load, 1)}
    return {"date": time.strftime("%Y-%m-%d"), **machine, **{name: version(name) for name in ("ray", "pyarrow")}}


def overhead(images: int, rounds: int) -> dict[str, Any]:
    """Seconds of the same images, local and on Ray in turn, with two workers each."""
    with TemporaryDirectory() as folder, closing(LocalExecutor(2, 1)) as local:
        source = Path(folder) / "images"
        _write_images(source, images)
        start = time.perf_counter()
        with closing(RayExecutor(ClusterSettings(LOCAL, most=2, least=2))) as cluster:
            connect_s = time.perf_counter() - start
            executors: dict[str, Executor] = {"local": local, "ray": cluster}
            seconds: dict[str, list[float]] = {name: [] for name in executors}
            parts: dict[str, bytes] = {}
            for number in range(-1, rounds):  # the first round opens the models
                for name, executor in executors.items():
                    output = f"{folder}/{name}"
                    job = WaitingJob(output)
                    taken = _run_s(executor, job, str(source))
                    if number >= 0:
                        seconds[name].append(taken)
                    parts[name] = (Path(output) / "parts/000000000.parquet").read_bytes()
                    for part in (Path(output) / "parts").iterdir():
                        part.unlink()
    assert parts["local"] == parts["ray"]
    ratios = [ray / here for here, ray in zip(seconds["local"], seconds["ray"], strict=True)]
    return {
        **{"images": images, "chunk": 40, "wait_ms_an_image": 100, "workers": 2, "connect_s": round(connect_s, 1)},
        **{f"{name}_s": [round(value, 2) for value in values] for name, values in seconds.items()},
        "ray_to_local": {"median": round(median(ratios), 3), "all": [round(ratio, 3) for ratio in ratios]},
    }


def _write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    image = cv2.imread(str(ROOT / "examples/images/cat.jpg"))
    for i in range(count):
        cv2.imwrite(str(folder / f"{i:05d}.jpg"), np.roll(image, i, axis=1))


def _run_s(executor: Executor, job: WaitingJob, source: str) -> float:
    plan = planned(Store(job.output), source, source_images(source), executor.describe(job), Cut(40))
    start = time.perf_counter()
    progress = run_chunks(job, plan, executor)
    assert progress.left == progress.state.failed == 0
    return time.perf_counter() - start


def driver(workers: int) -> dict[str, Any]:
    """Chunks a second that go through a driver with so many actors, by the time that a chunk takes."""
    from ray.cluster_utils import Cluster

    rows = []
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": workers, "include_dashboard": False})
    try:
        settings = ClusterSettings(cluster.address, most=workers, least=workers)
        with closing(RayExecutor(settings, WaitingActor)) as executor:
            _through(executor, 1.0, 40 * workers)  # until all have started
            for wait_s in WAITS_S:
                rows.append(_through(executor, wait_s, int(min(6000, SECONDS / wait_s * workers))))
                print(rows[-1], flush=True)
    finally:
        cluster.shutdown()
    return {"workers": workers, "rows": rows, "most_chunks_per_s": max(row["chunks_per_s"] for row in rows)}


def _through(executor: RayExecutor, wait_s: float, count: int) -> dict[str, float]:
    number = round(wait_s * 1e6)
    times = []
    start = time.perf_counter()
    for _ in executor.run(Job(""), repeat(Task(number), count), lambda _: None):
        times.append(time.perf_counter() - start)
    rate = count / times[-1]
    return {
        **{"wait_s": wait_s, "chunks": count, "chunks_per_s": round(rate, 1)},
        **{"possible_per_s": round(executor.workers / wait_s, 1), "busy": round(rate * wait_s / executor.workers, 3)},
    }


if __name__ == "__main__":
    from benchmarks import batch_ray  # under the name that workers find it by

    batch_ray.main()
