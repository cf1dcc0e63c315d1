"""No engine reports that it was used: none looks up a host, leaves an identifier, or needs a home folder."""

from __future__ import annotations

import os
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


def test_onnx_runtime_leaves_no_identifier_in_the_home_folder(demo_onnx: Path, tmp_path: Path) -> None:
    """Its telemetry keeps a database below the cache folder, and prints a warning where it cannot."""
    pytest.importorskip("onnxruntime")
    program = "import sys; from fastsam_deploy.runtime.engines import open_engine; open_engine(sys.argv[1])"
    removed = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    for home in (tmp_path, tmp_path / "missing" / "home"):
        run = subprocess.run(
            [sys.executable, "-B", "-c", program, str(demo_onnx)],
            env={**kept, "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (run.returncode, run.stderr) == (0, "")
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]
