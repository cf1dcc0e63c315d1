"""Runs of `fastsam batch` in processes of their own, that tests interrupt, and what they leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from fastsam_deploy.runtime.batch.parts.execution.interface import Outcome, Task
from fastsam_deploy.runtime.batch.parts.execution.worker import ChunkWorker
from fastsam_deploy.runtime.batch.parts.job import Description, Job, describe
from fastsam_deploy.runtime.batch.parts.output.store import Store
from fastsam_deploy.runtime.batch.parts.planning import Cut, planned
from fastsam_deploy.runtime.batch.parts.run import Progress, run_chunks
from fastsam_deploy.runtime.batch.parts.sources.search import source_images
from fastsam_deploy.runtime.opening import ModelSettings

ROOT = Path(__file__).resolve().parents[1]
FAST = ("--imgsz", "64", "--conf", "0.05", "--threads", "1")
"""A tiny network."""

_START = "import sys; from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"


def write_photographs(folder: Path, count: int, side: int = 96) -> None:
    """Different cuts of two real photographs, as JPEG files in two folders.

    Args:
        folder: is made.
        count: of the images.
        side: of an image, pixels.
    """
    originals = [Image.open(ROOT / f"examples/images/{name}.jpg").convert("RGB") for name in ("cat", "coffee")]
    for i in range(count):
        original = originals[i % 2]
        left, top = (37 * i) % (original.width - 200), (23 * i) % (original.height - 200)
        picture = original.crop((left, top, left + 200, top + 200)).resize((side + i % 7, side))
        path = folder / ("first" if i < count // 2 else "second") / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=85)


def batch_command(
    source: str | Path, output: str | Path, *arguments: str, largest_file: int | None = None
) -> list[str]:
    """The command line of a run, whose processes write no file that is larger than so many bytes."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file},) * 2); "
    return [
        sys.executable,
        "-c",
        f"{limit if largest_file else ''}{_START}",
        "batch",
        str(source),
        "--output",
        str(output),
        *FAST,
        *arguments,
    ]


@contextmanager
def started_batch(
    source: str | Path, output: str | Path, *arguments: str, largest_file: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A run that goes on; at the end of the block it is killed, and its workers end with it."""
    command = batch_command(source, output, *arguments, largest_file=largest_file)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def run_batch(
    source: str | Path, output: str | Path, *arguments: str, largest_file: int | None = None
) -> tuple[int, str]:
    """A whole run: its exit code, and what it wrote to standard error."""
    with started_batch(source, output, *arguments, largest_file=largest_file) as process:
        _, err = process.communicate(timeout=600)
        return process.returncode, err


def children_of(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    try:
        names = Path(f"/proc/{pid}/task").iterdir()
        direct = [int(child) for task in names for child in (task / "children").read_text().split()]
    except OSError:  # it has ended
        return []
    return [*direct, *(further for child in direct for further in children_of(child))]


def reader_of(path: Path, pid: int) -> int | None:
    """The process among the children of another one that has a file open."""
    for child in children_of(pid):
        try:
            opened = [file.readlink() for file in Path(f"/proc/{child}/fd").iterdir()]
        except OSError:
            continue
        if path in opened:
            return child
    return None


def write_photographs_and_damage(folder: Path) -> Path:
    """Sixty photographs, one of them damaged."""
    write_photographs(folder, 60)
    damaged = folder / "first/00007.jpg"
    damaged.write_bytes(damaged.read_bytes()[:700])
    return folder


def run_undisturbed(source: Path, output: Path, *arguments: str) -> tuple[dict[str, bytes], str]:
    """The files of a run over these that nothing has happened to, and what it said."""
    code, err = run_batch(source, output, *arguments)
    assert code == 0, err
    assert len({row["id"] for row in rows_of(output)}) == len(rows_of(output)) == 60
    return files_of(output), err


def files_of(output: Path) -> dict[str, bytes]:
    """Parts and dead letters, by name: all that a run promises."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for folder in ("parts", "failed")
        for path in sorted((output / folder).glob("*"))
    }


def rows_of(output: Path) -> list[dict[str, Any]]:
    """All rows, in the order of the parts."""
    from fastsam_deploy.runtime.batch import read

    rows: list[dict[str, Any]] = read(output).to_arrow().to_pylist()
    return rows


class InlineExecutor:
    """Runs chunks in this process, one after the other: an `Executor` for what has nothing to do with processes."""

    workers = 1

    def describe(self, job: Job) -> Description:
        with job.open_model(1) as model:
            return describe(job, model)

    def run(self, job: Job, tasks: Iterator[Task], on_images: Callable[[int], None]) -> Iterator[Outcome]:
        with ChunkWorker(job, 1) as worker:
            for task in tasks:
                yield worker.run(task, on_images)

    def close(self) -> None:
        """Nothing is open."""


def run_inline(source: str | Path, output: str | Path, chunk: int | None = 4, **options: Any) -> Progress:
    """A whole run in this process, with the tiny network of `FAST`."""
    settings = {"imgsz": 64, "conf": 0.05, **options.pop("settings", {})}
    job = Job(str(output), settings=ModelSettings.from_keywords(**settings), **options)
    executor, store = InlineExecutor(), Store(str(output))
    images = source_images(str(source), str(output))
    plan = planned(store, str(source), images, executor.describe(job), Cut(chunk))
    return run_chunks(job, plan, executor)
