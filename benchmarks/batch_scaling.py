"""`fastsam batch` on this machine: two workers against one, and against `fastsam segment` on the same folder.

    python -m benchmarks.batch_scaling                  # writes results/batch_scaling.json and .md
    python -m benchmarks.batch_scaling --images 64 --imgsz 320 --rounds 3

One worker of one thread has one processor, two workers have two: reading images and making masks is part of the work,
and has no processor of its own. The rate counts images while every worker has work: from the first part of each to the
last chunk but one, without the starts of the processes and the wait for the last of them. What the machine itself
gives is measured beside it: the network alone in two processes that have nothing in common, against one such process.
The last ratio is of whole commands, their starts included, each on all processors.

The cases of a round follow each other in turn; ratios are medians of those within each round. On a machine that does
other things too, ratios are less exact: the load is written down.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from fastsam_deploy.runtime.batch.parts.execution.local import LocalExecutor
from fastsam_deploy.runtime.batch.parts.job import Job
from fastsam_deploy.runtime.batch.parts.output.store import Store
from fastsam_deploy.runtime.batch.parts.planning import Cut, planned
from fastsam_deploy.runtime.batch.parts.run import Progress, run_chunks
from fastsam_deploy.runtime.batch.parts.sources.search import source_images
from fastsam_deploy.runtime.opening import ModelSettings

from .photographs import RESULTS, ROOT, processor, write_report

CHUNK = 10
"""Images of a part: few, so that the first and the last part are near the beginning and the end."""

NETWORK_S = 10.0
"""How long the network alone is measured."""

NETWORK_ALONE = """
# Opens the network with one thread, waits for a line, then counts what it does in some seconds.
import sys
from time import perf_counter
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
side, seconds = int(sys.argv[2]), float(sys.argv[3])
image = {session.get_inputs()[0].name: np.full((1, 3, side * 3 // 4, side), 0.5, np.float32)}
for _ in range(3):
    session.run(None, image)
print("ready", flush=True)
sys.stdin.readline()
begin, count = perf_counter(), 0
while perf_counter() - begin < seconds:
    session.run(None, image)
    count += 1
print(count / (perf_counter() - begin), flush=True)
"""


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="number of images: copies of the shipped photographs")
    parser.add_argument("--imgsz", type=int, default=640, help="longest side of the network's input")
    parser.add_argument("--rounds", type=int, default=5, help="how often each case is measured")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        raise SystemExit("needs two processors")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs = _photographs(folder / "photos", arguments.images)
        rounds = [_round(photographs, folder, arguments.imgsz, cpus) for _ in range(arguments.rounds)]
    report = {"environment": _environment(arguments), "rounds": rounds, "ratios": _ratios(rounds)}
    write_report(arguments.output, "batch_scaling", report, markdown(report))


def _photographs(folder: Path, count: int) -> Path:
    folder.mkdir()
    originals = sorted((ROOT / "examples/images").glob("*.jpg"))
    for i in range(count):
        shutil.copy(originals[i % len(originals)], folder / f"{i:05d}.jpg")
    return folder


def _round(photographs: Path, folder: Path, imgsz: int, cpus: list[int]) -> dict[str, float]:
    """Images per second of each case."""
    one = _rate(photographs, folder / "one", 1, imgsz, cpus[:1])
    two = _rate(photographs, folder / "two", 2, imgsz, cpus)
    alone, both = _network_alone(imgsz, cpus[:1]), _network_alone(imgsz, cpus)
    count = len(list(photographs.iterdir()))
    batch = _command("batch", photographs, folder / "batch", imgsz, ["--workers", "2"])
    segment = _command("segment", photographs, folder / "segment", imgsz, ["--format", "json"])
    return {
        "one worker": one,
        "two workers": two,
        "network alone, one process": alone,
        "network alone, two processes": both,
        "fastsam batch": count / batch,
        "fastsam segment": count / segment,
    }


def _rate(photographs: Path, output: Path, workers: int, imgsz: int, cpus: list[int]) -> float:
    """Images per second while all workers have work, on some processors."""
    job = Job(str(output), settings=ModelSettings.from_keywords(imgsz=imgsz))
    images_s: list[float] = []
    parts_s: list[float] = []

    def note_images(count: int) -> None:
        images_s.extend([perf_counter()] * count)

    def note_part(_: Progress) -> None:
        parts_s.append(perf_counter())

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)  # its processes inherit it
    try:
        with closing(LocalExecutor(workers, 1)) as executor:
            listed = source_images(str(photographs))
            plan = planned(Store(str(output)), "photos", listed, executor.describe(job), Cut(CHUNK))
            run_chunks(job, plan, executor, on_images=note_images, on_progress=note_part)
    finally:
        os.sched_setaffinity(0, before)
        shutil.rmtree(output)
    begin_s, end_s = parts_s[workers - 1], parts_s[-workers]
    return sum(begin_s < image_s <= end_s for image_s in images_s) / (end_s - begin_s)


def _network_alone(imgsz: int, cpus: list[int]) -> float:
    """Networks per second of a process on each of these processors, all at the same time."""
    words = [str(ROOT / "models/fastsam-demo.onnx"), str(imgsz), str(NETWORK_S)]
    with ExitStack() as stack:
        processes = []
        for cpu in cpus:
            command = ["taskset", "-c", str(cpu), sys.executable, "-c", NETWORK_ALONE, *words]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.append(stack.enter_context(process))
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "the network did not start"
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        return sum(float(process.communicate()[0]) for process in processes)


def _command(name: str, photographs: Path, output: Path, imgsz: int, options: list[str]) -> float:
    """Seconds that a whole command takes."""
    start = "import sys; from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"
    words = [name, str(photographs), "--output", str(output), "--imgsz", str(imgsz), "--quiet", *options]
    begin = perf_counter()
    subprocess.run([sys.executable, "-c", start, *words], check=True)
    seconds = perf_counter() - begin
    shutil.rmtree(output)
    return seconds


def _ratios(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {
        f"{top} / {bottom}": statistics.median(values[top] / values[bottom] for values in rounds)
        for top, bottom in (
            ("two workers", "one worker"),
            ("network alone, two processes", "network alone, one process"),
            ("fastsam batch", "fastsam segment"),
        )
    }


def _environment(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": processor(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "images": arguments.images,
        "imgsz": arguments.imgsz,
        "rounds": arguments.rounds,
        "driver_cpu_s": round(process_time(), 2),
        **{name: version(name) for name in ("onnxruntime", "pyarrow", "numpy")},
    }


def markdown(report: dict[str, Any]) -> str:
    """The tables of a report."""
    environment, rounds = report["environment"], report["rounds"]
    lines = ["| | images a second, median of rounds |", "|---|---|"]
    lines += [f"| {name} | {statistics.median(values[name] for values in rounds):.2f} |" for name in rounds[0]]
    lines += ["", "| ratio within a round | median |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in report["ratios"].items()]
    lines += [
        "",
        f"{environment['images']} photographs of 0.14 and 0.24 megapixels, demo model at {environment['imgsz']}, "
        f"{environment['processor']}, {environment['rounds']} rounds, load {environment['load'][0]} when they ended. "
        "One worker has one processor, two workers have two; the commands have all. The network alone does not read, "
        "make masks or write: its ratio is what two processors of this machine are worth.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
