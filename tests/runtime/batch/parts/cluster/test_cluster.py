"""`fastsam batch --ray` on a real cluster of two nodes with one processor each, from and to a real S3 server."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from tests.batch_runs import (
    ROOT,
    files_of,
    rows_of,
    run_batch,
    run_undisturbed,
    started_batch,
    write_photographs,
    write_photographs_and_damage,
)
from tests.object_store import ObjectStore, object_store_on_this_machine
from tests.ray_cluster import RayCluster, cluster_on_this_machine, wait_until

pytest.importorskip("ray", reason="needs the extra [ray]")
pytest.importorskip("pyarrow", reason="needs the extra [batch]")
if sys.platform != "linux":
    pytest.skip("reads the processes of workers from Linux's /proc", allow_module_level=True)
pytestmark = pytest.mark.timeout(1800)

SLOWER = ("--imgsz", "320", "--chunk", "3")
"""Chunks of some tenths of a second, so that there is something to disturb."""

POISON = b"POISON"
ENDS_ITS_PROCESS = f"""
# Python runs this when it starts. A decoder that crashes cannot be had on demand: this one does.
import hashlib, os
sha256 = hashlib.sha256
def of_content(content=b"", **options):
    if {POISON!r} in bytes(content):
        os.kill(os.getpid(), {int(signal.SIGSEGV)})
    return sha256(content, **options)
hashlib.sha256 = of_content
"""


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store_on_this_machine() as store:
        yield store


@pytest.fixture(scope="module")
def cluster(store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """Its processes know the store, and die of poison."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(ENDS_ITS_PROCESS)
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(paths)}), cluster_on_this_machine() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty photographs, one of them damaged."""
    return write_photographs_and_damage(tmp_path_factory.mktemp("source") / "photos")


@pytest.fixture(scope="module")
def undisturbed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run on one machine without Ray, that nothing has happened to."""
    return run_undisturbed(photos, tmp_path_factory.mktemp("undisturbed"), *SLOWER, "--workers", "2")[0]


def test_killed_workers_nodes_and_drivers_leave_no_trace(
    cluster: RayCluster, photos: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """More workers are asked for than have a place: those wait."""
    arguments = (*SLOWER, "--ray", cluster.address, "--workers", "3")
    with started_batch(photos, tmp_path, *arguments) as process:
        wait_until(lambda: files_of(tmp_path))
        wait_until(cluster.actors)
        cluster.kill_actor()
        wait_until(lambda: len(files_of(tmp_path)) >= 4)
        process.kill()
    wait_until(lambda: not cluster.actors())  # workers end with their driver
    # A draft of a part may be left; the next run removes it.
    left = {name: content for name, content in files_of(tmp_path).items() if "/." not in name}
    assert left.items() <= undisturbed.items()
    code, err = run_batch(photos, tmp_path, *arguments)
    assert code == 0, err
    assert files_of(tmp_path) == undisturbed


def _put_images(store: ObjectStore, folder: Path) -> str:
    """Images in the store, and a table with prompts for some of them; its address."""
    import fsspec

    write_photographs(folder, 12)
    names = sorted(path.name for path in folder.rglob("*.jpg"))
    prompts = {
        names[1]: '[{""points"": [[40, 40]]}]',
        names[4]: '[{""text"": ""a cat""}]',
        names[5]: '[{""boxes"": [[10, 10, 60, 60]]}, {""points"": [[20, 30]]}]',
    }
    table = ["path,prompts"]
    for path in sorted(folder.rglob("*.jpg"), key=lambda path: path.name):
        content = path.read_bytes()
        if path.name == names[8]:
            content += POISON
        if path.name == names[10]:
            content = content[:500]
        with fsspec.open(f"{store.url}/photos/{path.name}", "wb") as file:
            file.write(content)
        table.append(f'photos/{path.name},"{prompts.get(path.name, "")}"')
    with fsspec.open(f"{store.url}/images.csv", "wb") as file:
        file.write("\n".join(table).encode())
    return f"{store.url}/images.csv"


def test_results_are_those_of_one_machine(store: ObjectStore, cluster: RayCluster, tmp_path: Path) -> None:
    """From and to an object store: prompts of their own, a text, a damaged image, and one that kills its worker."""
    source, output = _put_images(store, tmp_path / "photos"), f"{store.url}/out"
    arguments = ("--chunk", "3", "--workers", "2", "--clip", str(ROOT / "tests/data/clip-tiny"))
    with mock.patch.dict(os.environ, {"PYTHONPATH": _path_with_poison(cluster)}):
        code, err = run_batch(source, tmp_path / "here", *arguments)
    assert code == 0, err
    store.requests.clear()
    code, err = run_batch(source, output, *arguments, "--ray", cluster.address)
    assert code == 0, err
    assert "10 done, 2 failed" in err
    here = files_of(tmp_path / "here")
    assert _objects(output) == here
    assert sum(name.startswith("parts/") for name in here) == store.count("PUT", "/bucket/out/parts/") == 4
    errors = {row["id"]: row["error_kind"] for row in rows_of(tmp_path / "here") if row["error"]}
    assert errors == {"photos/00008.jpg": "ProcessEnded", "photos/00010.jpg": "ImageError"}


def _path_with_poison(cluster: RayCluster) -> str:
    return cluster.environment["PYTHONPATH"]


def _objects(url: str) -> dict[str, bytes]:
    """Parts and dead letters in the store, by name."""
    import fsspec

    store, path = fsspec.core.url_to_fs(url)
    store.invalidate_cache()
    return {
        name.removeprefix(f"{path}/"): store.cat_file(name)
        for folder in ("parts", "failed")
        for name in store.find(f"{path}/{folder}")
    }


def test_prometheus_sees_what_workers_do(cluster: RayCluster, photos: Path, tmp_path: Path) -> None:
    names = [f"ray_fastsam_batch_{name}_total" for name in ("images", "failed_images", "parts", "part_bytes")]
    before = [cluster.metric(name) for name in names]
    code, err = run_batch(photos, tmp_path, "--chunk", "20", "--ray", cluster.address)
    assert code == 0, err
    parts = [path.stat().st_size for path in (tmp_path / "parts").iterdir()]
    expected = [60, 1, len(parts), sum(parts)]
    wait_until(
        lambda: [cluster.metric(name) for name in names] == [sum(both) for both in zip(before, expected, strict=True)]
    )
    assert cluster.metric("ray_fastsam_batch_chunk_seconds_count") >= len(parts)


def test_nobody_answers(tmp_path: Path) -> None:
    code, err = run_batch("photos", tmp_path, "--ray", "127.0.0.1:1")
    assert code == 2
    assert "no connection" in err and "Traceback" not in err


@pytest.mark.slow
def test_twenty_kills_end_as_an_undisturbed_run(
    cluster: RayCluster, photos: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """Drivers, workers, their children and whole nodes, at random moments; the same command each time."""
    chance = random.Random(17)
    kills = {"driver": 0, "worker": 0, "node": 0}
    runs = 0
    while sum(kills.values()) < 20:
        output = tmp_path / str(runs)
        while len(files_of(output)) < len(undisturbed) and sum(kills.values()) < 20:
            what = ("driver", "worker", "driver", "node")[sum(kills.values()) % 4]
            kills[what] += _disturbed(what, cluster, photos, output, chance)
        code, err = run_batch(photos, output, *SLOWER, "--ray", cluster.address, "--workers", "2")
        assert code == 0, err
        assert files_of(output) == undisturbed
        runs += 1
    print(kills, runs)


def _disturbed(what: str, cluster: RayCluster, photos: Path, output: Path, chance: random.Random) -> bool:
    """Start the run and kill something at a random moment. Whether it was still there to be killed."""
    with started_batch(photos, output, *SLOWER, "--ray", cluster.address, "--workers", "2") as process:
        parts = len(files_of(output)) + chance.randrange(4)
        wait_until(lambda: (len(files_of(output)) >= parts and cluster.actors()) or process.poll() is not None)
        if process.poll() is not None:
            return False
        if what == "driver":
            process.kill()
            return True
        if what == "worker":
            cluster.kill_actor(chance.choice)
        else:
            cluster.kill_node(chance.randrange(2))
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        return True


@pytest.mark.slow
def test_the_memory_of_a_worker_stays_flat(cluster: RayCluster, tmp_path: Path) -> None:
    """A thousand images in a hundred chunks: the last third needs no more than the one before."""
    write_photographs(tmp_path / "photos", 1000)
    samples: dict[int, list[int]] = {}
    with started_batch(
        tmp_path / "photos", tmp_path / "out", "--chunk", "10", "--workers", "1", "--ray", cluster.address
    ) as process:
        while process.poll() is None:
            for pid in cluster.actors():
                samples.setdefault(pid, []).append(_resident_bytes(pid))
            time.sleep(0.05)
    assert process.returncode == 0
    (resident,) = samples.values()
    third = len(resident) // 3
    print(f"{max(resident[third : 2 * third]) >> 20} MB, then {max(resident[2 * third :]) >> 20} MB")
    assert max(resident[2 * third :]) < 1.05 * max(resident[third : 2 * third])


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # it has ended
        return 0
