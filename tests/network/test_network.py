"""No command uses the network unless it is told to: each runs with a recorder between it and the system's calls, and
where the system allows it without a network."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import typer

from fastsam_deploy.runtime import load_image
from tests.runtime.http_server.served import Served

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "examples/images/coffee.jpg"
MODEL, CHECKPOINT = ROOT / "models/fastsam-demo.onnx", ROOT / "models/fastsam-demo.pt"
CLIP = ROOT / "tests/data/clip-tiny"
SMALL = ("--imgsz", "160")

RUNTIME = {
    "doctor": ("doctor", "--json"),
    "segment": ("segment", PHOTO, *SMALL, "--json", "out.json"),
    "openvino": ("segment", PHOTO, *SMALL, "--engine", "openvino"),
    "text": ("segment", PHOTO, *SMALL, "--text", "a cup", "--clip", CLIP),
    "video": ("video", "clip.avi", *SMALL, "-o", "out.avi"),
    "batch": ("batch", "run", PHOTO.parent, "--output", "parts", *SMALL),
    "speed": ("bench", "speed", PHOTO, *SMALL, "--runs", "1", "--warmup", "0"),
    "tune": ("tune", "m.onnx", "--images", PHOTO, "--runs", "1", "--imgsz", "160", "--min-mean-iou", "0"),
    "fidelity": ("bench", "fidelity", MODEL, f"b={MODEL}@engine=openvino", "--images", PHOTO, *SMALL),
}
FAILING = {
    "download": ("download", "FastSAM-x", "--from", "http://mirror.invalid/weights"),
    "name": ("segment", PHOTO, "--model", "FastSAM-s"),
    "status": ("batch", "status", "missing"),
    "export": ("batch", "export", "missing", "--output", "dataset"),
    "edges": ("bench", "edges", "--data", "missing"),
    "proposals": ("bench", "proposals", "missing.json"),
    "instances": ("bench", "instances", "missing.json"),
    "serve": ("serve", "--port", "0", "--model", "missing.onnx"),
}
"""What cannot be done here, but could try to get what is missing."""

EXPORT = {
    "onnx": ("onnx", CHECKPOINT, "-o", "out.onnx", *SMALL),
    "direct": ("onnx", CHECKPOINT, "--direct", "-o", "out.onnx", *SMALL),
    "triton": ("triton", MODEL, "-o", "repository", "--clip", CLIP),
    "trtexec": ("engine", MODEL, "--trtexec"),
}


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("the recorder is preloaded on Linux, and compiled with a C compiler")
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    source = Path(__file__).with_name("recorder.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60)
    return library


@pytest.fixture(scope="module")
def isolation() -> list[str]:
    """The words before a command that leave it without a network; none where the system does not allow that."""
    words = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
        return words
    return []


def _recorded(recorder: Path, isolation: list[str], tmp_path: Path, arguments: list[str]) -> tuple[int, str, list[str]]:
    """Exit code, standard error and what was recorded of a Python process; with a home that nothing was set up in."""
    log = tmp_path / "network.log"
    kept = {name: value for name, value in os.environ.items() if name not in ("YOLO_OFFLINE", "ORT_DISABLE_TELEMETRY")}
    home = {name: str(tmp_path / "home") for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "YOLO_CONFIG_DIR")}
    (tmp_path / "home").mkdir(exist_ok=True)
    run = subprocess.run(
        [*isolation, sys.executable, "-B", *arguments],
        env={**kept, **home, "LD_PRELOAD": str(recorder), "NETWORK_LOG": str(log)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    return run.returncode, run.stderr, log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def test_the_recorder_sees_what_there_is_to_see(recorder: Path, isolation: list[str], tmp_path: Path):
    program = (
        "import socket, urllib.request\ntry: urllib.request.urlopen('http://nobody.invalid/')\nexcept OSError: pass\n"
    )
    program += "try: socket.create_connection(('192.0.2.1', 9), 0.1)\nexcept OSError: pass"
    _, _, recorded = _recorded(recorder, isolation, tmp_path, ["-c", program])
    assert "getaddrinfo nobody.invalid" in recorded and "connect 192.0.2.1" in recorded


@pytest.mark.parametrize("name", RUNTIME)
def test_fastsam_looks_up_no_host(recorder: Path, isolation: list[str], tmp_path: Path, name: str):
    if name in ("openvino", "fidelity"):
        pytest.importorskip("openvino")
    if name == "batch":
        pytest.importorskip("pyarrow", reason="needs the extra [batch]")
    if name == "tune":
        shutil.copy(MODEL, tmp_path / "m.onnx")
    if name == "video":
        writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (600, 400))
        for _ in range(3):
            writer.write(load_image(PHOTO)[..., ::-1])
        writer.release()
    command = ["-m", "fastsam_deploy.runtime.cli", *map(str, RUNTIME[name])]
    code, errors, recorded = _recorded(recorder, isolation, tmp_path, command)
    assert (code, recorded) == (0, []), errors


VISIT = """
import os, signal, sys, threading, time, urllib.error, urllib.request
from fastsam_deploy.runtime.cli.main import main

def visit():
    for path in ("", "gradio_api/info", "theme.css"):
        for attempt in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[-1]}/{path}", timeout=30).read()
                break
            except urllib.error.URLError:
                time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=visit, daemon=True).start()
sys.exit(main())
"""
"""Runs a command that serves a page, looks at the page and ends the command."""


def test_fastsam_app_looks_up_no_host(recorder: Path, tmp_path: Path):
    """Not without a network, as that is without 127.0.0.1 too."""
    pytest.importorskip("gradio", reason="needs the extra [app]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    code, errors, recorded = _recorded(recorder, [], tmp_path, ["-c", VISIT, "app", *SMALL, "--port", port])
    assert code == 128 + signal.SIGTERM and f"http://127.0.0.1:{port}/" in errors
    assert set(recorded) <= {"getaddrinfo 127.0.0.1", "getaddrinfo localhost"}, errors  # which is this machine
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", FAILING)
def test_nothing_is_fetched_that_was_not_asked_for(recorder: Path, isolation: list[str], tmp_path: Path, name: str):
    command = ["-m", "fastsam_deploy.runtime.cli", *map(str, FAILING[name])]
    code, errors, recorded = _recorded(recorder, isolation, tmp_path, command)
    assert code == 2 and "Traceback" not in errors
    assert set(recorded) <= ({"getaddrinfo mirror.invalid"} if name == "download" else set()), errors


def test_a_server_looks_up_no_host(recorder: Path, tmp_path: Path):
    """Not without a network, as it is asked something."""
    pytest.importorskip("uvicorn", reason="needs the extra [serve]")
    log = tmp_path / "network.log"
    with Served(LD_PRELOAD=str(recorder), NETWORK_LOG=str(log)) as server:
        assert server.form(PHOTO.read_bytes()).status == 200
        assert server.post("/v1/segment", url="http://nobody.invalid/x.jpg").status == 400
        assert server.stop() == 0
    assert not log.exists(), log.read_text(encoding="utf-8")


def _commands(group: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        yield from _commands(command) if hasattr(command, "commands") else [name]


def test_every_command_is_tried_here():
    pytest.importorskip("torch")
    from fastsam_deploy.export.cli.main import app as export
    from fastsam_deploy.runtime.cli.main import app as runtime

    tried = {str(word) for table in (RUNTIME, FAILING, EXPORT) for words in table.values() for word in words[:2]}
    for app in (runtime, export):
        own = {"app", "clip", "quantize"}  # these have tests of their own
        assert set(_commands(typer.main.get_command(app))) <= tried | own


@pytest.mark.export
@pytest.mark.parametrize("name", EXPORT)
def test_fastsam_export_looks_up_no_host(recorder: Path, isolation: list[str], tmp_path: Path, name: str):
    pytest.importorskip("ultralytics")
    command = ["-m", "fastsam_deploy.export.cli", *map(str, EXPORT[name])]
    code, errors, recorded = _recorded(recorder, isolation, tmp_path, command)
    assert (code, recorded) == (0, []), errors


@pytest.mark.export
@pytest.mark.slow
def test_quantize_looks_up_no_host(recorder: Path, isolation: list[str], tmp_path: Path):
    pytest.importorskip("ultralytics")
    options = ["--calibration", PHOTO.parent, "--images", "2", "--min-iou", "0", "--min-recall", "0", "-o", "out.onnx"]
    command = ["-m", "fastsam_deploy.export.cli", "quantize", *map(str, (MODEL, *options))]
    _, errors, recorded = _recorded(recorder, isolation, tmp_path, command)  # the file may be refused: it is compared
    assert recorded == [], errors


@pytest.mark.export
@pytest.mark.slow
def test_clip_from_a_folder_looks_up_no_host(recorder: Path, isolation: list[str], tmp_path: Path):
    """A name of the hub is looked up there, and said so; a folder is not."""
    pytest.importorskip("transformers")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"model_type": "clip"}', encoding="utf-8")
    command = ["-m", "fastsam_deploy.export.cli", "clip", str(tmp_path / "model"), "-o", "clip"]
    code, errors, recorded = _recorded(recorder, isolation, tmp_path, command)
    assert (code, recorded) == (2, []), errors
