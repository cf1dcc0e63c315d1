"""What deploy/ says of Triton, asked of a real one: started with the flags of entrypoint.sh, with the demo model."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.triton

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def triton_server() -> ModuleType:
    """scripts/triton_server.py."""
    if not os.environ.get("FASTSAM_TRITON_ENV"):
        pytest.skip("FASTSAM_TRITON_ENV names no environment with a Triton server; scripts/test.sh makes one")
    spec = importlib.util.spec_from_file_location("triton_server", ROOT / "scripts/triton_server.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fastsam_deploy.export.triton.to_triton import build_repository

    model = ROOT / "models/fastsam-demo.onnx"
    return build_repository(model, tmp_path_factory.mktemp("models") / "repository", device="cpu", imgsz=320).path


@pytest.fixture
def server(
    triton_server: ModuleType, repository: Path, entrypoint: Callable[..., list[str]], tmp_path: Path
) -> Iterator[Any]:
    environment = triton_server.Environment(Path(os.environ["FASTSAM_TRITON_ENV"]))
    flags = [flag for flag in entrypoint(FASTSAM_ADMIN_KEY="known") if re.match(r"--(?!\w+-port=)", flag)]
    assert len(flags) > 10
    # With a dead stub it waits to the end; the last one of two flags counts.
    flags.append("--exit-timeout-secs=3")
    with triton_server.Server(environment, repository, arguments=flags, log=tmp_path / "log") as running:
        yield running


def call(server: Any, path: str, body: Any = None, **headers: str) -> int:
    """The status of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{server.http}/v2/{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def infer(server: Any, prompt: str = "{}") -> int:
    image = {"name": "PIXELS", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": [128] * 3072}
    question = {"name": "PROMPT", "shape": [1, 1], "datatype": "BYTES", "data": [prompt]}
    return call(server, "models/fastsam/infer", {"inputs": [image, question]})


def counted(server: Any, metric: str, **labels: str) -> float:
    """Sum of the series that carry the labels."""
    lines = [line for line in server.metrics().splitlines() if line.startswith(metric + "{")]
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    return sum(float(line.split()[-1]) for line in lines if all(label in line for label in wanted))


def failures(server: Any, model: str, reason: str) -> float:
    return counted(server, "nv_inference_request_failure", model=model, reason=reason)


def successes(server: Any, model: str) -> float:
    return counted(server, "nv_inference_request_success", model=model)


def stub_of(server: Any, model: str) -> list[int]:
    """Process ids of the Python stubs of a model."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = re.search(r"^PPid:\t(\d+)", status.read_text(), re.MULTILINE).group(1)
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue  # it has ended meanwhile
        if int(parent) == server.pid and f"/{model}/" in command:
            found.append(int(status.parent.name))
    return found


def test_the_flags_and_the_metrics_are_those_of_our_lists(server: Any, triton_server: ModuleType) -> None:
    environment = triton_server.Environment(Path(os.environ["FASTSAM_TRITON_ENV"]))
    done = subprocess.run(
        [environment.binary, "--help"], env=environment.variables(), capture_output=True, text=True, check=False
    )
    flags = (HERE / "tritonserver_flags.txt").read_text(encoding="utf-8").splitlines()
    assert set(re.findall(r"^  (--[a-z0-9-]+)", done.stdout + done.stderr, re.MULTILINE)) == set(flags[2:])

    assert infer(server) == 200
    published = {re.split(r"[{ ]", line)[0] for line in server.metrics().splitlines() if line[:1] != "#"}
    known = (HERE / "tritonserver_metrics.txt").read_text(encoding="utf-8").split("# Of GPUs")[0].splitlines()
    assert published == {line for line in known if line[:1] != "#"}


def test_administration_needs_the_key_and_inference_does_not(server: Any) -> None:
    region = {"key": "/nobody", "offset": 0, "byte_size": 16}
    for path, body in [
        ("systemsharedmemory/region/a/register", region),
        ("systemsharedmemory/status", None),
        ("repository/models/fastsam/load", {}),
        ("repository/index", {}),
        ("models/fastsam/stats", None),
        ("trace/setting", None),
        ("logging", None),
    ]:
        assert call(server, path, body) == 403, path
    assert call(server, "repository/index", {}, **{"fastsam-admin": "known"}) == 200
    assert call(server, "repository/index", {}, **{"fastsam-admin": "wrong"}) == 403
    # Model control is off, with the key too.
    assert call(server, "repository/models/fastsam/load", {}, **{"fastsam-admin": "known"}) != 200
    for path in ("health/ready", "health/live", "models/fastsam", "models/fastsam/config"):
        assert call(server, path) == 200, path
    assert infer(server) == 200


def test_what_is_counted_is_what_the_alerts_say(server: Any) -> None:
    assert infer(server) == 200
    before = successes(server, "fastsam_preprocess")
    assert infer(server, prompt="nonsense") == 400
    # The client's mistake: a success of the model that refused it, and twice a failure of the ensemble.
    assert successes(server, "fastsam_preprocess") == before + 1
    assert failures(server, "fastsam_preprocess", "BACKEND") == 0
    assert failures(server, "fastsam", "OTHER") == 2
    assert successes(server, "fastsam") >= 1


def test_a_dead_stub_fails_everything_and_stays_ready(server: Any) -> None:
    assert infer(server) == 200
    stubs = stub_of(server, "fastsam_postprocess")
    assert stubs
    for stub in stubs:
        os.kill(stub, signal.SIGKILL)
    before = successes(server, "fastsam_postprocess")
    for _ in range(3):
        assert infer(server) == 500
    time.sleep(0.5)
    assert call(server, "health/ready") == call(server, "models/fastsam/ready") == 200
    # FastSAMModelDead looks at exactly these two.
    assert failures(server, "fastsam_postprocess", "BACKEND") >= 3
    assert successes(server, "fastsam_postprocess") == before
