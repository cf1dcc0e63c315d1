"""Opening OpenVINO looks up no host and needs no home folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import pathlib, socket, sys

def lookup(*arguments, **_):
    print("looked up", arguments[0])
    raise OSError("no network")

def home(*_):
    raise RuntimeError("Could not determine home directory.")

socket.getaddrinfo = lookup
pathlib.Path.home = home
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.settings import EngineSettings

print(open_engine(sys.argv[1], EngineSettings(engine="openvino")).description["engine"])
assert "openvino_telemetry" not in sys.modules
"""


def test_openvino_opens_without_a_home_folder_and_looks_up_no_host(demo_onnx: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("openvino_telemetry")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(demo_onnx)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout) == (0, "openvino\n"), run.stderr
