"""`scripts/demo.sh` on a copy of the sources, as on a fresh clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import cv2
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the demo needs, and no environment."""
    target = tmp_path_factory.mktemp("clone")
    for name in ("runtime", "export", "models", "triton_models", "examples", "scripts"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    return target


def demo(clone: Path, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": str(python)}
    return subprocess.run(
        ["bash", "scripts/demo.sh"],
        cwd=clone, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=800,
    )  # fmt: skip


def stand_in(folder: Path, broken: str) -> Path:
    """A Python that fails as a broken one does: `broken` are lines of bash that run before the real one."""
    path = folder / "python3"
    path.write_text(f'#!/usr/bin/env bash\n{broken}\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return path


# What Debian and Ubuntu say and do where python3-venv is not installed.
DEBIAN = """
if [ "$1" = -m ] && [ "$2" = venv ]; then
  mkdir -p "$3/bin"
  echo 'The virtual environment was not created successfully because ensurepip is not'
  echo 'available.  On Debian/Ubuntu systems, you need to install the python3-venv'
  echo 'package using the following command.'
  exit 1
fi
"""
NO_ENSUREPIP = """
if [ "$1" = -c ] && [[ "$2" == *ensurepip* ]]; then
  echo "ModuleNotFoundError: No module named 'ensurepip'" >&2
  exit 1
fi
"""


@pytest.mark.parametrize("broken", [DEBIAN, NO_ENSUREPIP], ids=["venv fails", "no ensurepip"])
def test_where_venv_is_missing_it_says_what_to_install(clone: Path, tmp_path: Path, broken: str) -> None:
    done = demo(clone, stand_in(tmp_path, broken))
    assert done.returncode == 2
    assert "its venv or ensurepip module is missing" in done.stderr
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"sudo apt install python{version}-venv" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (clone / ".venv-demo").exists(), "half an environment would be taken for one"


def test_a_python_that_is_too_old_is_named(clone: Path, tmp_path: Path) -> None:
    old = 'if [ "$1" = -V ]; then echo "Python 3.8.10"; exit 0; fi\nif [[ "$2" == *version_info* ]]; then exit 1; fi'
    done = demo(clone, stand_in(tmp_path, old))
    assert done.returncode == 2
    assert "demo: Python 3.8.10 is too old, 3.10 or newer is needed" in done.stderr


def test_a_python_that_is_not_there_is_named(clone: Path) -> None:
    done = demo(clone, "python-of-nowhere")
    assert done.returncode == 2
    assert "python-of-nowhere: not found" in done.stderr


def test_the_demo_runs_on_a_fresh_clone_and_quickly_again(clone: Path) -> None:
    first = demo(clone)
    assert first.returncode == 0, first.stderr
    for word in ("letterbox", "engine", "decode", "masks", "everything", "points", "boxes", "coffee.jpg", "cat.jpg"):
        assert word in first.stdout
    pictures = sorted((clone / "demo_output").iterdir())
    assert len(pictures) == 6
    assert str(clone / "demo_output") in first.stdout
    assert {cv2.imread(str(path)).shape for path in pictures} == {(400, 600, 3), (300, 451, 3)}

    installed = subprocess.run(
        [clone / ".venv-demo/bin/python", "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout.lower()
    assert "fastsam-deploy" in installed
    assert "torch" not in installed

    start = perf_counter()
    again = demo(clone)
    assert again.returncode == 0, again.stderr
    assert ".venv-demo" not in again.stdout, "the environment is used again"
    assert perf_counter() - start < 60

    # A change of the sources is installed without making the environment again.
    (clone / "runtime/errors.py").write_text((clone / "runtime/errors.py").read_text() + "\nCHANGED = True\n")
    changed = demo(clone)
    assert changed.returncode == 0, changed.stderr
    assert "the sources have changed" in changed.stdout
