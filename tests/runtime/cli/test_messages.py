"""-q, -v, -h, --version and completion, of both commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from fastsam_deploy.runtime import __version__
from fastsam_deploy.runtime.cli.main import app

FAST = ("--imgsz", "160", "--threads", "1")
START = "import sys; sys.argv[0] = {name!r}; from fastsam_deploy.{module}.cli.main import main; sys.exit(main())"
MODULES = {"fastsam": "runtime", "fastsam-export": "export"}


@pytest.fixture
def folder(tmp_path: Path, coffee: Path, cat: Path) -> Path:
    for path in (coffee, cat):
        shutil.copy(path, tmp_path)
    (tmp_path / "broken.jpg").write_bytes(coffee.read_bytes()[:9000])
    return tmp_path


def run(name: str, *arguments: str, folder: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    start = START.format(name=name, module=MODULES[name])
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        capture_output=True, text=True, cwd=folder, env={**os.environ, **variables}, check=False,
    )  # fmt: skip


def test_quiet_prints_errors_only(folder: Path) -> None:
    done = run("fastsam", "segment", "cat.jpg", "coffee.jpg", "-q", "-o", "out", *FAST, folder=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list((folder / "out").glob("*.jpg"))) == 2
    done = run("fastsam", "segment", "cat.jpg", "broken.jpg", "--quiet", "--json", "-", *FAST, folder=folder)
    assert done.returncode == 2 and len(done.stdout.splitlines()) == 2
    first, last = done.stderr.splitlines()
    assert first.startswith("fastsam: broken.jpg: ") and last.startswith("fastsam: 1 of 2 images failed")


def test_verbose_prints_more(folder: Path) -> None:
    done = run("fastsam", "segment", "cat.jpg", "-v", "-o", "out", *FAST, folder=folder)
    assert done.returncode == 0
    assert "FastSAM(model='fastsam-demo.onnx', engine='onnxruntime'" in done.stderr
    assert "\n  load " in done.stderr and "\n  out/cat.overlay.jpg\n" in done.stderr
    done = run("fastsam", "segment", "cat.jpg", "-v", "-q", folder=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--quiet and --verbose are given, expected one of them" in done.stderr


def test_quiet_export_prints_nothing(folder: Path, demo_onnx: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra [export]")
    for options, is_quiet in (((), False), (("-q",), True)):
        done = run(
            "fastsam-export", "triton", str(demo_onnx), "-o", f"repository{len(options)}", *options, folder=folder
        )
        assert done.returncode == 0, done.stderr
        assert (done.stdout == "") == is_quiet


@pytest.mark.parametrize("name", MODULES)
def test_both_commands_have_the_usual_options(name: str) -> None:
    if name == "fastsam-export":
        pytest.importorskip("onnx", reason="needs the extra [export]")
    assert run(name, "--version").stdout == f"fastsam-deploy {__version__}\n"
    command = {"fastsam": "segment", "fastsam-export": "onnx"}[name]
    for arguments in (["-h"], ["--help"], [command, "-h"], [command, "--help"]):
        done = run(name, *arguments, TERM="dumb", COLUMNS="200")
        assert done.returncode == 0 and "Usage: " in done.stdout
    assert "--quiet" in done.stdout and "--verbose" in done.stdout


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("fastsam", "fastsam seg", "segment"),
        ("fastsam", "fastsam segment --form", "--format"),
        ("fastsam", "fastsam segment --format la", "labelmap"),
        ("fastsam-export", "fastsam-export quan", "quantize"),
    ],
)
def test_the_shell_completes(name: str, words: str, expected: str) -> None:
    if name == "fastsam-export":
        pytest.importorskip("onnx", reason="needs the extra [export]")
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    given = {variable: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    assert expected in run(name, **given).stdout.split()
    shown = run(name, "--show-completion", "bash")
    assert variable in shown.stdout or variable in run(name, "--show-completion", SHELL="/bin/bash").stdout


def test_every_command_has_the_options() -> None:
    names = {}
    root: Any = typer.main.get_command(app)
    for word, command in root.commands.items():
        for name, part in getattr(command, "commands", {"": command}).items():
            names[f"{word} {name}".strip()] = {option for parameter in part.params for option in parameter.opts}
    expected = {"segment", "video", "download", "doctor", "bench speed", "bench fidelity", "batch run", "batch status"}
    assert expected <= names.keys()
    assert all({"--quiet", "-q", "--verbose", "-v"} <= options for options in names.values())
