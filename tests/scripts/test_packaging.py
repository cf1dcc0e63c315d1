"""The wheel holds the packages of the sources, all of them and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("runtime", "export", "models", "triton_models")
FILES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of what a wheel is built from."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77 or newer")
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
    for name in FILES:
        shutil.copy2(ROOT / name, folder)
    return folder


def built(sources: Path) -> set[str]:
    """Names of the files in the wheel that pip makes of the sources."""
    target = sources.parent / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(target), str(sources)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_kernel(sources: Path) -> None:
    names = built(sources)
    for top in ("runtime", "export"):
        for path in (sources / top).rglob("*"):
            if path.suffix in {".py", ".ptx", ".cu", ".cuh", ".typed"}:
                place = path.relative_to(sources).as_posix().removeprefix("runtime/top_level/")
                assert f"fastsam_deploy/{place}" in names
    assert not [name for name in names if "top_level/" in name], "it is the package itself"
    assert "fastsam_deploy/models/fastsam-demo.onnx" in names
    assert "fastsam_deploy/triton_models/fastsam_device/1/model.py" in names


def test_a_module_of_an_earlier_build_is_not_shipped(sources: Path) -> None:
    stale = sources / "build/lib/fastsam_deploy/runtime/removed.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("raise SystemExit\n")
    assert "fastsam_deploy/runtime/removed.py" not in built(sources)
