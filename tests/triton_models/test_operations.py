"""What an operator meets: full queues, dead processes, restarts, new versions. Each test has a server of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from fastsam_deploy.export.triton.to_triton import LOAD_ORDER, build_repository
from fastsam_deploy.runtime import FastSAM, Segments
from scripts.triton_server import Server
from tests.triton_models.plain_client import Answer, PlainClient, assert_same, segments_of

pytestmark = pytest.mark.triton

ROOT = Path(__file__).resolve().parents[2]
IMGSZ = 96
MODELS = ("fastsam", "fastsam_device")
PARTS = ("fastsam_preprocess", "fastsam_engine", "fastsam_postprocess")
UNAVAILABLE = {"http": "503", "grpc": "StatusCode.UNAVAILABLE"}
NOTHING = {"masks": "none"}


@pytest.fixture(scope="module")
def tiny(demo_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("operations") / "repository"
    return build_repository(demo_onnx, folder, imgsz=IMGSZ, threads=1, queue_ms=120_000).path


@pytest.fixture
def own(tiny: Path, tmp_path: Path) -> Path:
    """A copy that the test may change."""
    return shutil.copytree(tiny, tmp_path / "repository")


@pytest.fixture(scope="module")
def wanted(coffee: Path) -> Segments:
    with FastSAM(imgsz=IMGSZ) as local:
        found = local.segment(coffee)
    assert len(found) >= 2
    return found


def _stubs(server: Server, model: str) -> list[int]:
    """Process ids of the Python processes of a model: children of the server that run its file."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (folder / "cmdline").read_bytes().decode()
        except (OSError, ValueError, IndexError):
            continue
        if parent == server.pid and f"/{model}/" in command:
            found.append(int(folder.name))
    return found


def _crash(server: Server) -> None:
    """Kill it. Its Python processes end by themselves; their shared memory stays, as after any crash."""
    stubs = [pid for model in (*PARTS, "fastsam_device") for pid in _stubs(server, model)]
    server.kill()
    _wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in stubs))
    for left in Path("/dev/shm").glob(f"fastsam_{os.getpid()}_{server.http_port}*"):
        left.unlink()


def _failures(server: Server, model: str, reason: str) -> int:
    pattern = rf'nv_inference_request_failure{{model="{model}",reason="{reason}",version="\d+"}} (\d+)'
    return sum(int(count) for count in re.findall(pattern, server.metrics()))


def _all_at_once(server: Server, transport: str, count: int, **question: Any) -> list[Answer | Exception]:
    """The same question from many clients."""

    def ask(_: int) -> Answer | Exception:
        with PlainClient(server, transport) as client:
            try:
                return client.ask(**question)
            except InferenceServerException as error:
                return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def _errors(answers: list[Answer | Exception]) -> list[InferenceServerException]:
    return [answer for answer in answers if isinstance(answer, InferenceServerException)]


def _wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.parametrize("model", MODELS)
def test_a_full_queue_refuses_what_comes_on_top(
    demo_onnx: Path, tmp_path: Path, start: Callable[..., Server], coffee: Path, model: str
):
    built = build_repository(demo_onnx, tmp_path / "slow", imgsz=320, threads=1, queue=4, max_batch=2)
    server = start(built.path, (model,))
    for transport in ("http", "grpc"):
        answers = _all_at_once(server, transport, 48, model=model, image=coffee.read_bytes(), prompt=NOTHING)
        refused = _errors(answers)
        assert 0 < len(refused) < len(answers), "some are answered, some are refused"
        for error in refused:
            assert error.status() == UNAVAILABLE[transport]
            assert "exceeds maximum queue size" in error.message().lower()
        with PlainClient(server, transport) as client:
            assert client.ask(model, coffee.read_bytes())["COUNT"].item() > 0, "and afterwards it is as before"


def test_who_waits_too_long_is_refused(demo_onnx: Path, tmp_path: Path, start: Callable[..., Server], coffee: Path):
    """By the configuration's limit, and by one that the client gives; both count as REJECTED in the metrics."""
    built = build_repository(demo_onnx, tmp_path / "slow", imgsz=320, threads=1, queue_ms=20, max_batch=1)
    server = start(built.path, ("fastsam_device",))
    question = {"model": "fastsam_device", "image": coffee.read_bytes(), "prompt": NOTHING}
    seen = 0
    for transport, options in (("grpc", {}), ("http", {}), ("grpc", {"timeout": 1000}), ("http", {"timeout": 1000})):
        answers = _all_at_once(server, transport, 24, **question, **options)
        refused = _errors(answers)
        assert 0 < len(refused) < len(answers)
        for error in refused:
            assert error.status() == UNAVAILABLE[transport]
            assert "Request timeout expired" in error.message()
        seen += len(refused)
        _wait(lambda n=seen: _failures(server, "fastsam_device", "REJECTED") == n)


@pytest.mark.parametrize(("model", "dies"), [("fastsam_device", "fastsam_device"), ("fastsam", "fastsam_postprocess")])
def test_a_dead_python_process(
    own: Path, start: Callable[..., Server], coffee: Path, wanted: Segments, model: str, dies: str
):
    """It fails fast and counts as BACKEND, which the alerts watch: health stays 200. Unload and load cures it."""
    server = start(own)
    other = next(one for one in MODELS if one != model)
    file = coffee.read_bytes()
    with PlainClient(server, "http") as client:
        assert _failures(server, dies, "BACKEND") == 0
        stubs = _stubs(server, dies)
        assert stubs
        for pid in stubs:
            os.kill(pid, signal.SIGKILL)
        for failed in range(1, 4):
            begin = time.monotonic()
            with pytest.raises(InferenceServerException, match=r"Stub process.*is not healthy"):
                client.ask(model, file)
            assert time.monotonic() - begin < 5
            _wait(lambda n=failed: _failures(server, dies, "BACKEND") == n)
        assert client.raw.is_server_ready()
        assert client.raw.is_model_ready(model)
        assert client.raw.is_model_ready(dies)
        assert_same(segments_of(client.ask(other, file)), wanted)
        client.raw.unload_model(model, unload_dependents=model == "fastsam")
        _wait(lambda: not client.raw.is_model_ready(model))
        client.raw.load_model(model)
        assert_same(segments_of(client.ask(model, file)), wanted)
    _crash(server)  # with dead processes it takes the whole of its time to stop in order


def test_a_server_that_crashes_and_comes_back(own: Path, start: Callable[..., Server], coffee: Path, wanted: Segments):
    """Clients stay; the server is found again on its ports."""
    server = start(own)
    file = coffee.read_bytes()
    clients = [PlainClient(server, transport) for transport in ("http", "grpc")]
    for client in clients:
        assert_same(segments_of(client.ask("fastsam_device", file)), wanted)
    _crash(server)
    for client in clients:
        with pytest.raises(Exception, match=r"refused|UNAVAILABLE|closed|reset"):  # each transport has its own kinds
            client.ask("fastsam_device", file)
    start(own, ports=(server.http_port, server.grpc_port, server.metrics_port))
    for client in clients:
        _wait(lambda c=client: _answers(c, file))
        for model in MODELS:
            assert_same(segments_of(client.ask(model, file)), wanted)
        client.raw.close()


def _answers(client: PlainClient, file: bytes) -> bool:
    try:
        client.ask("fastsam_device", file)
    except (InferenceServerException, OSError):
        return False
    return True


class Traffic:
    """Clients of both models over both transports that go on asking."""

    def __init__(self, server: Server, file: bytes) -> None:
        self.answers: list[Answer] = []
        self.lost: list[Exception] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(server, transport, model, file))
            for transport in ("http", "grpc")
            for model in MODELS
        ]

    def _ask(self, server: Server, transport: str, model: str, file: bytes) -> None:
        with PlainClient(server, transport) as client:
            while not self._over.is_set():
                try:
                    self.answers.append(client.ask(model, file))
                except Exception as error:  # noqa: BLE001 whatever it is, a request was lost
                    self.lost.append(error)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def wait_for_more(self, count: int = 20) -> None:
        goal = len(self.answers) + count
        _wait(lambda: len(self.answers) >= goal or bool(self.lost))

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def _versions(client: PlainClient, model: str) -> dict[str, str]:
    """Version → state."""
    index = client.raw.get_model_repository_index()
    return {one["version"]: one["state"] for one in index if one["name"] == model and "version" in one}


@pytest.fixture
def busy(own: Path, start: Callable[..., Server], coffee: Path) -> Iterator[tuple[Path, PlainClient, Traffic]]:
    """A repository, its server's HTTP client, and traffic that goes on."""
    server = start(own)
    with PlainClient(server, "http") as client, Traffic(server, coffee.read_bytes()) as traffic:
        traffic.wait_for_more()
        yield own, client, traffic


def test_a_new_version_takes_over_under_traffic(
    busy: tuple[Path, PlainClient, Traffic], demo_onnx: Path, wanted: Segments
):
    """Each model by its name, the network first. Version 1 goes when its last request is answered."""
    repository, client, traffic = busy
    added = build_repository(demo_onnx, repository, imgsz=IMGSZ, threads=1, queue_ms=120_000, add_version=True)
    assert added.version == 2
    for model in added.load_order:
        client.raw.load_model(model)
        traffic.wait_for_more()
    traffic.wait_for_more()
    for model in (*MODELS, *PARTS):
        _wait(lambda m=model: _versions(client, m) == {"1": "UNAVAILABLE", "2": "READY"})
        (statistics,) = client.statistics(model)
        assert statistics["version"] == "2"
        assert statistics["inference_count"] > 0
    traffic.__exit__()
    assert not traffic.lost, traffic.lost[:3]
    for answer in traffic.answers:
        assert_same(segments_of(answer), wanted)


@pytest.mark.parametrize("broken", ["fastsam_engine/2/model.onnx", "fastsam_postprocess/2/model.py"])
def test_a_new_version_that_does_not_load_leaves_the_old_one(
    busy: tuple[Path, PlainClient, Traffic], demo_onnx: Path, wanted: Segments, broken: str
):
    """It is refused by name. If it is the network, all of version 1 goes on; answers of version 2 would differ."""
    repository, client, traffic = busy
    options = {"threads": 1, "queue_ms": 120_000, "add_version": True}
    added = build_repository(demo_onnx, repository, imgsz=128, **options)
    file = repository / broken
    file.write_bytes(file.read_bytes()[:1000] + b"(")
    refused = file.parents[1].name
    for model in added.load_order:
        if model == refused:
            break
        client.raw.load_model(model)
    with pytest.raises(InferenceServerException, match="version 2 is at UNAVAILABLE state"):
        client.raw.load_model(refused)
    traffic.wait_for_more()
    loaded = added.load_order[: added.load_order.index(refused)]
    for model in (*PARTS, "fastsam_device"):
        _wait(lambda m=model: _ready(client, m) == ("2" if m in loaded else "1"))
    assert bool(loaded) == (refused != "fastsam_engine")
    with FastSAM(f"http://{client.address}/fastsam") as new_client:
        assert new_client.imgsz == IMGSZ, "what clients read is version 1's, too"
    # The way back: the old model as version 3.
    for model in build_repository(demo_onnx, repository, imgsz=IMGSZ, **options).load_order:
        client.raw.load_model(model)
    for model in (*MODELS, *PARTS):
        _wait(lambda m=model: _ready(client, m) == "3")
    traffic.wait_for_more()
    traffic.__exit__()
    assert not traffic.lost, traffic.lost[:3]
    for answer in traffic.answers:
        assert_same(segments_of(answer), wanted)


def _ready(client: PlainClient, model: str) -> str:
    """The versions that serve."""
    return " ".join(version for version, state in _versions(client, model).items() if state == "READY")


def test_the_order_of_loading_is_told_where_people_look():
    readme = (ROOT / "triton_models/README.md").read_text(encoding="utf-8")
    assert ", ".join(name for name in LOAD_ORDER if name.startswith("fastsam")) in readme
    assert LOAD_ORDER[:2] == ("clip_image", "clip_text")
    assert set(LOAD_ORDER[2:]) == {*MODELS, *PARTS}
