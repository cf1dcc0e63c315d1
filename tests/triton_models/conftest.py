"""A real Triton server with the demo model. `FASTSAM_TRITON_ENV` names its environment; scripts/test.sh makes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts.triton_server import Environment, Server

if TYPE_CHECKING:
    from tests.triton_models.clients import LeftBehind

MODELS = ("fastsam", "fastsam_device")


@pytest.fixture(scope="session")
def environment() -> Environment:
    folder = os.environ.get("FASTSAM_TRITON_ENV")
    if not folder:
        pytest.skip("FASTSAM_TRITON_ENV names no environment with a Triton server; scripts/test.sh makes one")
    return Environment(Path(folder))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, demo_onnx: Path) -> Path:
    """The demo model's repository; tests that change it use `repository`."""
    from fastsam_deploy.export.triton.to_triton import build_repository

    return build_repository(demo_onnx, tmp_path_factory.mktemp("triton") / "repository").path


@pytest.fixture
def repository(built: Path, tmp_path: Path) -> Path:
    """A copy of the test's own."""
    return shutil.copytree(built, tmp_path / "repository")


@pytest.fixture(scope="session")
def server(environment: Environment, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that leave it as it was."""
    with Server(environment, built, MODELS, log=tmp_path_factory.mktemp("server") / "log") as running:
        yield running


@pytest.fixture
def left(server: Server) -> Iterator[LeftBehind]:
    """What clients have left behind: nothing, at the end."""
    from tritonclient.grpc import InferenceServerClient

    from tests.triton_models.clients import LeftBehind

    with closing(InferenceServerClient(server.grpc)) as client:
        left = LeftBehind(client)
        yield left
        assert left.registered() == [] and left.bytes() == 0


@pytest.fixture
def start(environment: Environment, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the test's own and stops them after it."""
    running: list[Server] = []

    def starter(repository: Path, models: tuple[str, ...] = MODELS, **options: object) -> Server:
        running.append(Server(environment, repository, models, log=tmp_path / f"server{len(running)}.log", **options))
        return running[-1]

    yield starter
    for one in running:
        one.stop()
