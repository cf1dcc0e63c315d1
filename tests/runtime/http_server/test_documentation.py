"""The commands of docs/serve.md, on a real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastsam_deploy.runtime.http_server.requests import MASKS, SEGMENT_KEYS, file_formats
from tests.runtime.http_server.served import ROOT, Served

for _name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_name, reason="needs the extra [serve]")

TEXT = (ROOT / "docs/serve.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines() if line]
ADDRESS = "127.0.0.1:8080"


def test_the_commands_give_what_the_page_says(tmp_path: Path):
    if not shutil.which("curl"):
        pytest.skip("curl is not on the path")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = [line for line in LINES if not line.startswith(("pip ", "fastsam "))]
    with Served() as server:
        script = "\n".join(["set -e", *lines]).replace(ADDRESS, f"127.0.0.1:{server.port}")
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    counts = {path.stem: len(json.loads(path.read_bytes())["segments"]) for path in tmp_path.glob("*.json")
              if path.stem != "request"}  # fmt: skip
    assert counts["everything"] > 5 and counts["cup"] == counts["box"] == 1 and counts["polygons"] > 1
    assert (tmp_path / "labels.png").read_bytes().startswith(b"\x89PNG")
    assert '"ready"' in done.stdout and "fastsam_requests_total" in done.stdout


def test_the_server_starts_as_the_page_says():
    served = [shlex.split(line)[2:] for line in LINES if line.startswith("fastsam serve")]
    assert [] in served
    for arguments in filter(None, served):
        with Served(*arguments) as server:
            assert server.get("/health/ready").status == 200


def test_keys_options_and_metrics_are_those_of_the_server():
    from fastsam_deploy.runtime.http_server.web.metrics import Metrics

    assert all(f"`{name}`" in TEXT for name in (*SEGMENT_KEYS, *MASKS, *file_formats()))
    families = set(re.findall(r"^# TYPE (fastsam_\w+)", Metrics().text().decode(), re.M)) - {"fastsam_requests_created"}
    named = set(re.findall(r"`(fastsam_\w+)`", TEXT)) - {"fastsam_device"}  # a model of Triton
    assert named == {name for name in families if not name.endswith("_created")}
    helped = subprocess.run(
        [sys.executable, "-m", "fastsam_deploy.runtime.cli", "serve", "--help"],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, "COLUMNS": "200"},
    ).stdout  # fmt: skip
    assert all(option in helped for option in re.findall(r"`(--[a-z-]+)`", TEXT))
