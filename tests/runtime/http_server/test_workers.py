"""Several processes behind one address."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.runtime.http_server.served import PHOTOS, ROOT, Served

for _name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_name, reason="needs the extra [serve]")

COFFEE = (PHOTOS / "coffee.jpg").read_bytes()
POINTS = [{"points": [[285, 150]]}]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Served("--workers", "2") as server:
        yield server


def images_of_both(server: Served) -> dict[str, str]:
    """Number of the process → id of an image that it keeps."""
    kept: dict[str, str] = {}
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for reply in pool.map(lambda _: server.form(COFFEE, masks="none"), range(4)):
                kept[reply.json["id"].partition("-")[0]] = reply.json["id"]
            if len(kept) == 2:
                return kept
    raise AssertionError(f"only {kept}")


def answered(server: Served, name: str, times: int = 8) -> set[int]:
    """Statuses of prompts on an image, whichever process gets them."""
    return {server.post("/v1/select", id=name, prompts=POINTS).status for _ in range(times)}


def test_an_image_is_found_whichever_process_gets_the_prompt(served: Served):
    kept = images_of_both(served)
    assert set(kept) == {"0", "1"}
    before = served.metric("fastsam_requests_total")
    assert all(answered(served, name) == {200} for name in kept.values())
    assert served.metric("fastsam_requests_total") == before + 1 + 16, "what is passed on is counted once"
    assert answered(served, "1-" + "x" * 22) == {404}, "its process does not know it"
    wrong = served.post("/v1/select", id=kept["0"], prompts=[{"points": [[9999, 0]]}])
    assert wrong.status == 400 and wrong.json["kind"] == "PromptError"


def test_the_metrics_are_the_sums_of_all_processes(served: Served):
    images_of_both(served)
    counts = {served.metric("fastsam_batch_size_sum") for _ in range(6)}
    assert len(counts) == 1 and counts.pop() >= 4
    assert served.metric("fastsam_cache_images") >= 2


def test_a_process_that_is_killed_is_replaced_and_its_images_are_forgotten():
    with Served("--workers", "2") as server:
        kept = images_of_both(server)
        victim = _children(server.process.pid)[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"worker {victim} ended with -9; another one starts")
        statuses = {number: answered(server, name) for number, name in kept.items()}
        assert sorted(map(sorted, statuses.values())) == [[200], [404]]
        assert set(images_of_both(server)) == {"0", "1"}, "both work again"
        assert server.stop() == 0


def test_the_end_of_the_parent_is_the_end_of_its_processes():
    with Served("--workers", "2") as server:
        children = _children(server.process.pid)
        server.process.kill()
        end = time.monotonic() + 30
        while any(map(_is_running, children)) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(map(_is_running, children))


def test_a_model_that_cannot_be_opened_is_one_line_and_the_end():
    command = [sys.executable, "-m", "fastsam_deploy.runtime.cli", "serve", "--port", "0", "--workers", "2"]
    done = subprocess.run(
        [*command, "--model", "missing.onnx"], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("fastsam: missing.onnx") and len(done.stderr.splitlines()) == 1


def _children(pid: int) -> list[int]:
    """The processes that serve; not those of `multiprocessing` or decoders."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=", "-o", "args=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    lines = [line for line in found.stdout.splitlines() if "spawn_main" in line]
    pids = [int(re.split(r"\s+", line.strip())[0]) for line in lines]
    assert len(pids) == 2, found.stdout
    return pids


def _is_running(pid: int) -> bool:
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()[:1] not in ("", "Z")
