"""Stopping a server: SIGTERM reaches it once the requests under way are finished."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts.triton_server import Environment, free_ports

ROOT = Path(__file__).resolve().parents[2]
DRAIN = ROOT / "deploy/drain.py"

SERVER = '''
"""A server with metrics: three requests are pending until a file is there. It says when it starts and is stopped."""
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Metrics(BaseHTTPRequestHandler):
    def do_GET(self):
        idle = os.path.exists("idle")
        rows = [("pending_request_count", 0 if idle else 3), ("request_success", 8), ("exec_count", 4)]
        rows.append(("compute_infer_duration_us", 80_000))
        text = "".join(f'nv_inference_{name}{{model="m",version="1"}} {value}\\n' for name, value in rows)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass

def stop(*_):
    print("stopped", "idle" if os.path.exists("idle") else "busy", flush=True)
    os._exit(3)

signal.signal(signal.SIGTERM, stop)
port = next((word.partition("=")[2] for word in sys.argv if word.startswith("--metrics-port=")), None)
server = HTTPServer(("127.0.0.1", int(port)), Metrics) if port else None
print("started", flush=True)
if "--dies" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
server.serve_forever() if server else time.sleep(60)
'''


@pytest.fixture(scope="module")
def drain() -> ModuleType:
    """deploy/drain.py."""
    spec = importlib.util.spec_from_file_location("drain", DRAIN)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Runs drain.py with the server above, and waits until the server runs."""
    (tmp_path / "server.py").write_text(SERVER)
    running: list[subprocess.Popen[str]] = []

    def starter(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        # Whatever the proxy: the metrics are this host's own.
        environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "no_proxy": "", **environment}
        command = [sys.executable, str(DRAIN), sys.executable, "server.py", *arguments]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    yield starter
    for process in running:
        process.kill()
        process.wait()


def _metrics_port() -> str:
    return f"--metrics-port={free_ports(1)[0]}"


def test_the_metrics_are_read(drain: ModuleType) -> None:
    text = """\
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="fastsam_engine",version="1"} 10
nv_inference_request_success{model="fastsam_engine",version="2"} 10
nv_inference_request_failure{model="fastsam_engine",reason="OTHER",version="1"} 2
nv_inference_exec_count{model="fastsam_engine",version="1"} 5
nv_inference_compute_infer_duration_us{model="fastsam_engine",version="1"} 5e+06
nv_inference_pending_request_count{model="fastsam_engine",version="1"} 4
nv_inference_pending_request_count{model="fastsam_preprocess",version="1"} 1
nv_gpu_utilization{gpu_uuid="GPU-1"} 1
"""
    activity = drain.activity_from_metrics(text)
    assert (activity.pending, activity.finished) == (5, 27)
    assert activity.quiet_s == pytest.approx(1 + 2 * 5 / 20)
    assert drain.activity_from_metrics("") == drain.Activity(0, 0, 1)


def test_the_server_is_stopped_when_nothing_is_under_way(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(_metrics_port())
    process.send_signal(signal.SIGTERM)
    time.sleep(2)
    assert process.poll() is None, "three requests are pending"
    (tmp_path / "idle").touch()
    output, _ = process.communicate(timeout=20)
    assert "no request is under way" in output
    assert "stopped idle" in output
    assert process.returncode == 3, "that of the server"


@pytest.mark.parametrize("more", ["limit", "second signal", "no metrics", "no wait"])
def test_nothing_makes_it_wait_for_ever(start: Callable[..., subprocess.Popen[str]], more: str) -> None:
    arguments = [] if more == "no metrics" else [_metrics_port()]
    process = start(*arguments, FASTSAM_DRAIN_S={"limit": "1", "no wait": "0"}.get(more, "60"))
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    if more == "second signal":
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert "stopped busy" in output
    assert time.monotonic() - begin < 10
    assert process.returncode == 3


def test_how_the_server_ends_is_how_it_ends(start: Callable[..., subprocess.Popen[str]]) -> None:
    process = start("--dies")
    assert process.wait(20) == 128 + signal.SIGKILL


@pytest.mark.parametrize("seconds", ["soon", "-1", "inf", "nan"])
def test_a_time_that_is_none(seconds: str) -> None:
    command = [sys.executable, str(DRAIN), "true"]
    environment = {**os.environ, "FASTSAM_DRAIN_S": seconds}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"FASTSAM_DRAIN_S is '{seconds}'" in done.stderr


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], dict[str, int]]]]:
    """Runs deploy/entrypoint.sh on the demo model, as a container does; process and ports."""
    if not os.environ.get("FASTSAM_TRITON_ENV"):
        pytest.skip("FASTSAM_TRITON_ENV names no environment with a Triton server; scripts/test.sh makes one")
    from fastsam_deploy.export.triton.to_triton import build_repository

    environment = Environment(Path(os.environ["FASTSAM_TRITON_ENV"]))
    model = ROOT / "models/fastsam-demo.onnx"
    repository = build_repository(model, tmp_path / "repository", device="cpu", imgsz=640, threads=1).path
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tritonserver").symlink_to(environment.binary)
    ports = dict(zip(("http", "grpc", "metrics"), free_ports(3), strict=True))
    memory = f"fastsam_{os.getpid()}_{ports['http']}_"
    running: list[subprocess.Popen[bytes]] = []

    def starter(*flags: str, **more: str) -> tuple[subprocess.Popen[bytes], dict[str, int]]:
        variables = environment.variables()
        variables["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{variables['PATH']}"
        command = ["bash", str(ROOT / "deploy/entrypoint.sh"), f"--model-repository={repository}", *flags]
        command += [f"--backend-directory={environment.backends}"]
        command += [f"--backend-config=python,shm-region-prefix-name={memory}"]
        command += [f"--{name}-port={port}" for name, port in ports.items()]
        with (tmp_path / "log").open("wb") as log:
            running.append(subprocess.Popen(command, env={**variables, **more}, stdout=log, stderr=log))
        _wait_until_served(running[-1], ports["http"], tmp_path / "log")
        return running[-1], ports

    yield starter
    for process in running:
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.1)
        process.wait(60)
    for left in Path("/dev/shm").glob(f"{memory}*"):
        left.unlink(missing_ok=True)


def _wait_until_served(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    import urllib.request

    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text()[-3000:])


def _ask(address: str, times: int | None = 1, over: threading.Event | None = None) -> list[str]:
    """What becomes of requests that one client sends one after the other, without sending any again."""
    from fastsam_deploy.runtime import Connection, FastSAM, FastSamError

    answers = []
    with FastSAM(address, connection=Connection(retries=0, shared_memory=False)) as model:
        while (times is None or len(answers) < times) and not (over and over.is_set()):
            try:
                answers.append(f"{len(model.segment(ROOT / 'examples/images/cat.jpg'))} masks")
            except FastSamError as error:
                answers.append(str(error))
    return answers


@pytest.mark.triton
@pytest.mark.parametrize("transport", ["grpc", "http"])
@pytest.mark.parametrize("model", ["fastsam", "fastsam_device"])
def test_every_request_under_way_is_answered(container: Callable[..., Any], transport: str, model: str) -> None:
    """24 of 24: Triton alone refuses 21 to 23 of those to the ensemble over gRPC."""
    process, ports = container()
    address = f"{transport}://127.0.0.1:{ports[transport]}/{model}"
    (usual,) = _ask(address)
    with ThreadPoolExecutor(24) as pool:
        answers = [pool.submit(_ask, address) for _ in range(24)]
        time.sleep(0.4)
        assert not all(answer.done() for answer in answers)
        process.send_signal(signal.SIGTERM)
        assert Counter(text for answer in answers for text in answer.result()) == {usual: 24}
    assert process.wait(60) == 0


@pytest.mark.triton
def test_requests_that_never_end_do_not_keep_the_server(container: Callable[..., Any]) -> None:
    process, ports = container(FASTSAM_DRAIN_S="3")
    over = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        address = f"grpc://127.0.0.1:{ports['grpc']}/fastsam"
        answers = [pool.submit(_ask, address, None, over) for _ in range(4)]
        time.sleep(2)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - begin > 3
        over.set()
        texts = [text for answer in answers for text in answer.result()]
    failed = [text for text in texts if not re.fullmatch(r"\d+ masks", text)]
    assert len(texts) - len(failed) > 4
    assert failed


@pytest.mark.triton
def test_connections_that_are_opened_anew_lose_no_request(container: Callable[..., Any]) -> None:
    """--grpc-max-connection-age: each connection ends several times here, with requests under way."""
    _, ports = container("--grpc-max-connection-age=500")
    address = f"grpc://127.0.0.1:{ports['grpc']}/fastsam"
    over = threading.Event()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(_ask, address, None, over) for _ in range(8)]
        time.sleep(8)
        over.set()
        texts = Counter(text for answer in answers for text in answer.result())
    assert len(texts) == 1, texts
    assert next(iter(texts)).endswith(" masks")
