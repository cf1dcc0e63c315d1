"""Clients of a real server: nothing stays registered, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime import Connection, FastSAM, FastSamError
from fastsam_deploy.runtime.system.shared_memory import SharedRegion
from scripts.triton_server import Server
from tests.processes import ROOT, run_program, running_program
from tests.triton_models.clients import OPENED, LeftBehind, arguments

pytestmark = pytest.mark.triton


class TestLeftBehind:
    def test_a_script_that_does_not_close(self, server: Server, left: LeftBehind, tmp_path: Path):
        run_program(tmp_path, OPENED + "model = opened()\nanswer(model, 0)", *arguments(server, "grpc-shared"))
        assert left.registered() == [] and left.bytes() == 0
        code = "def work():\n    model = opened()\n    answer(model, 0)\nwork()\nos._exit(0)"
        run_program(tmp_path, OPENED + code, *arguments(server, "http-shared"))

    @pytest.mark.parametrize("way", ["grpc-shared", "http-shared"])
    def test_an_exception(self, server: Server, left: LeftBehind, tmp_path: Path, way: str):
        code = "model = opened()\nanswer(model, 0)\nraise KeyError"
        run_program(tmp_path, OPENED + code, *arguments(server, way), code_expected=1)

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_sigterm_of_the_command(self, server: Server, left: LeftBehind, tmp_path: Path, transport: str):
        """`fastsam segment` with the stages here and the network on the server: whole tensors are shared."""
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)).save(tmp_path / "a.png")
        for i in range(400):
            os.link(tmp_path / "a.png", tmp_path / f"b{i:03}.png")
        address = arguments(server, transport)[0].replace("fastsam_device", "fastsam_engine")
        command = [sys.executable, "-m", "fastsam_deploy.runtime.cli", "segment", str(tmp_path), "--model", address]
        with subprocess.Popen([*command, "--json", str(tmp_path / "lines.jsonl")], cwd=ROOT) as process:
            try:
                _wait_until(lambda: left.registered() != [])
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 128 + signal.SIGTERM
            finally:
                process.kill()
        assert left.registered() == [] and left.bytes() == 0

    @pytest.mark.parametrize("way", ["grpc-shared", "http-shared"])
    def test_sigkill_and_another_client(self, server: Server, left: LeftBehind, tmp_path: Path, way: str):
        code = "model = opened()\nanswer(model, 0)\nprint(flush=True)\ntime.sleep(60)"
        for signal_number in (signal.SIGKILL, signal.SIGTERM):
            with running_program(tmp_path, OPENED + code, *arguments(server, way)) as process:
                process.stdout.readline()
                assert len(left.registered()) == 1 and left.bytes() == 0
                with FastSAM(arguments(server, way)[0]):
                    assert len(left.registered()) == 1, "its owner is alive"
                process.send_signal(signal_number)
                process.wait()
            assert len(left.registered()) == 1 and left.bytes() > 0
            with FastSAM(arguments(server, way)[0]):
                assert left.registered() == [] and left.bytes() == 0

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_copies_that_fail(self, server: Server, left: LeftBehind, monkeypatch: pytest.MonkeyPatch, transport: str):
        """Their regions are used for the next images, and none is left."""
        image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
        with FastSAM(arguments(server, transport)[0]) as model:
            wanted = model.segment(image)
            with monkeypatch.context() as broken:
                broken.setattr(SharedRegion, "write", _failing)
                for _ in range(10):
                    with pytest.raises(MemoryError):
                        model.segment(image)
            assert model.segment(image) == wanted
            assert len(left.registered()) == 1 and left.bytes() == image.nbytes

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_clients_whose_requests_timed_out(self, server: Server, left: LeftBehind, transport: str):
        frame = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), np.uint8)
        address = arguments(server, transport)[0]
        late = 0
        for _ in range(20):
            connection = Connection(timeout_s=0.03, retries=0, shared_memory=True)
            with FastSAM(address, connection=connection) as model:
                for image in (frame, np.concatenate([frame, frame])):  # the second does not fit into the first's region
                    try:
                        model.segment(image)
                    except FastSamError as error:
                        late += "no answer within" in str(error)
        assert late > 20
        assert left.registered() == [] and left.bytes() == 0


def _failing(*_: object) -> None:
    raise MemoryError


def _wait_until(condition: object) -> None:
    end = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)
