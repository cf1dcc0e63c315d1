"""Runs that are killed, stopped, or out of room: the same command goes on, nothing is lost, nothing is doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batch_runs import (
    children_of,
    files_of,
    reader_of,
    rows_of,
    run_batch,
    run_undisturbed,
    started_batch,
    write_photographs,
    write_photographs_and_damage,
)

pytest.importorskip("pyarrow", reason="the extra [batch]")
if sys.platform != "linux":
    pytest.skip("reads the children of processes from Linux's /proc", allow_module_level=True)
pytestmark = pytest.mark.timeout(900)

CHUNK = ("--chunk", "5", "--workers", "2")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty photographs, one of them damaged."""
    return write_photographs_and_damage(tmp_path_factory.mktemp("source") / "photos")


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nothing has happened to."""
    files, err = run_undisturbed(photos, tmp_path_factory.mktemp("undisturbed"), *CHUNK)
    assert "59 done, 1 failed" in err
    return files


def waited(process: subprocess.Popen[str], condition: Callable[[], object]) -> bool:
    """Wait until the condition holds; False if the process has ended before."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def kill_at_random(photos: Path, output: Path, chance: random.Random, what: str) -> bool:
    """Start a run and kill its driver or one of its workers at a random moment. Whether the run was left unfinished."""
    with started_batch(photos, output, *CHUNK) as process:
        parts = len(list((output / "parts").glob("*.parquet")))
        more = chance.choice([0, 0, 1, 2, 4])
        waited(process, lambda: len(list((output / "parts").glob("*.parquet"))) >= parts + more)
        try:
            process.wait(chance.uniform(0, 1.5))
        except subprocess.TimeoutExpired:
            victims = [process.pid] if what == "driver" else children_of(process.pid)
            if victims:
                os.kill(chance.choice(victims), signal.SIGKILL)
        if what == "worker":
            _, err = process.communicate(timeout=600)
            assert process.returncode == 0, err
        return process.wait() != 0


def check_kills(photos: Path, output: Path, undisturbed: dict[str, bytes], kills: int, seed: int) -> None:
    """Kill so many runs, each into what those before it have left; begin anew when one is complete."""
    chance = random.Random(seed)
    for i in range(kills):
        what = "driver" if i % 2 == 0 else "worker"
        kill_at_random(photos, output, chance, what)
        complete = len(list((output / "parts").glob("*.parquet"))) == len(list(undisturbed)) - 1
        if complete or i == kills - 1:
            code, err = run_batch(photos, output, *CHUNK)
            assert code == 0, err
            assert files_of(output) == undisturbed, f"seed {seed}, kill {i} of a {what}"
            output = output.with_name(f"{output.name}x")


def test_a_killed_driver_and_a_killed_worker_leave_what_an_undisturbed_run_does(
    photos: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    check_kills(photos, tmp_path / "out", undisturbed, kills=2, seed=1)


@pytest.mark.slow
def test_twenty_kills_at_random_moments(photos: Path, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    check_kills(photos, tmp_path / "out", undisturbed, kills=20, seed=seed)


def test_workers_end_with_a_killed_driver(photos: Path, tmp_path: Path) -> None:
    with started_batch(photos, tmp_path / "out", *CHUNK) as process:
        assert waited(process, lambda: list((tmp_path / "out/parts").glob("*.parquet")))
        workers = children_of(process.pid)
        assert workers
        process.kill()
        process.wait()
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            time.sleep(0.01)  # the time limit of the test ends this


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_finishes_the_parts_that_are_under_way(
    photos: Path, undisturbed: dict[str, bytes], tmp_path: Path, number: int
) -> None:
    output = tmp_path / "out"
    with started_batch(photos, output, *CHUNK) as process:
        assert waited(process, lambda: list((output / "parts").glob("*.parquet")))
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number, err
    assert "finishing the parts that are under way" in err and " left → " in err
    kept = files_of(output)
    assert kept.items() <= undisturbed.items() and 1 <= len(kept) < len(undisturbed)
    assert not list(output.rglob(".fs-*"))
    code, err = run_batch(photos, output, *CHUNK)
    assert code == 0 and "were done before" in err, err
    assert files_of(output) == undisturbed


def test_a_full_disk_says_so_and_the_same_command_goes_on(
    photos: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk: listing and plan fit, a part does not."""
    smallest = min(len(content) for name, content in undisturbed.items() if name.startswith("parts"))
    output = tmp_path / "out"
    code, err = run_batch(photos, output, *CHUNK, largest_file=smallest - 1)
    assert code == 2
    assert "cannot be written (File too large); make room, or choose another folder" in err.splitlines()[-1]
    assert not [name for name in files_of(output) if name.startswith("parts")]
    assert not list(output.rglob(".fs-*"))
    code, err = run_batch(photos, output, *CHUNK)
    assert code == 0, err
    assert files_of(output) == undisturbed


def test_an_image_that_ends_every_process_becomes_a_dead_letter(tmp_path: Path) -> None:
    """A pipe stands for the image: the test knows who reads it, and kills that process, as the system does when there
    is no memory."""
    source, output = tmp_path / "photos", tmp_path / "out"
    write_photographs(source, 8)
    poison = source / "first/00001.jpg"
    poison.unlink()
    os.mkfifo(poison)
    killed = []
    with started_batch(source, output, "--chunk", "4", "--workers", "1") as process:

        def kill_readers() -> None:
            while process.poll() is None and len(killed) < 3:
                reader = reader_of(poison, process.pid)
                if reader is not None and reader not in killed:
                    killed.append(reader)
                    os.kill(reader, signal.SIGKILL)
                time.sleep(0.002)

        thread = threading.Thread(target=kill_readers)
        thread.start()
        _, err = process.communicate(timeout=600)
        thread.join()
    assert process.returncode == 0, err
    assert len(killed) == 3, "a worker, and two processes for this image alone"
    rows = rows_of(output)
    assert [row["id"] for row in rows if row["error"]] == ["first/00001.jpg"]
    (row,) = [row for row in rows if row["error"]]
    assert row["error_kind"] == "ProcessEnded" and "SIGKILL: out of memory" in row["error"]
    assert len(rows) == 8
    from pyarrow import parquet

    (letter,) = parquet.read_table(output / "failed").to_pylist()
    assert (letter["id"], letter["error"]) == (row["id"], row["error"])


def test_an_image_that_takes_too_long_becomes_a_dead_letter(tmp_path: Path) -> None:
    """A file of 4 bytes a row, which Pillow pads pixel by pixel: minutes for a few kilobytes."""
    from tests.runtime.stages.test_isolated import slow_bmp

    source, output = tmp_path / "photos", tmp_path / "out"
    write_photographs(source, 4)
    (source / "first/00001-slow.bmp").write_bytes(slow_bmp(60_000, 2_000))
    code, err = run_batch(source, output, "--chunk", "5", "--workers", "1", "--image-timeout", "5")
    assert code == 0, err
    rows = {row["id"]: row for row in rows_of(output)}
    assert len(rows) == 5
    assert {name: row["error_kind"] for name, row in rows.items() if row["error"]} == {
        "first/00001-slow.bmp": "TimeLimit"
    }


@pytest.mark.slow
def test_an_image_that_takes_too_long_in_an_isolated_decoder_costs_no_worker(tmp_path: Path) -> None:
    from tests.runtime.stages.test_isolated import slow_bmp

    source, output = tmp_path / "photos", tmp_path / "out"
    write_photographs(source, 4)
    (source / "first/00001-slow.bmp").write_bytes(slow_bmp(60_000, 2_000))
    code, err = run_batch(source, output, "--chunk", "5", "--workers", "1", "--isolate")
    assert code == 0, err
    errors = {row["id"]: row["error"] for row in rows_of(output) if row["error"]}
    assert list(errors) == ["first/00001-slow.bmp"] and "takes more than 20 s" in errors["first/00001-slow.bmp"]
