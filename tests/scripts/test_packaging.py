"""The wheel holds the packages of the sources, all of them and nothing else; compiled code if there is a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fastsam_deploy.runtime.native.library import PATH

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


def wheel_of(sources: Path, **environment: str) -> Path:
    """The wheel that pip makes of the sources."""
    target = sources.parent / "wheels"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(target), str(sources)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


def built(sources: Path) -> set[str]:
    """Names of the files in the wheel that pip makes of the sources."""
    with zipfile.ZipFile(wheel_of(sources)) as archive:
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
    wheel_of(sources).unlink()
    (package,) = (sources / "build").glob("lib*/fastsam_deploy/runtime")
    (package / "removed.py").write_text("raise SystemExit\n")
    assert "fastsam_deploy/runtime/removed.py" not in built(sources)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_code_makes_a_wheel_of_its_platform_for_every_python(sources: Path) -> None:
    wheel = wheel_of(sources)
    assert wheel.stem.split("-")[2:4] == ["py3", "none"] and not wheel.stem.endswith("-any")
    with zipfile.ZipFile(wheel) as archive:
        assert [name for name in archive.namelist() if Path(name).name == PATH.name]


@pytest.mark.skipif(os.name == "nt", reason="CC and CXX name no compiler on Windows")
def test_without_a_compiler_pip_makes_a_wheel_too(sources: Path, tmp_path: Path) -> None:
    """It holds no compiled code, fits every platform, and computes masks with NumPy, which it says."""
    wheel = wheel_of(sources, CC="false", CXX="false")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = "from fastsam_deploy.runtime import FastSAM; print(FastSAM().description['masks'])"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "NumPy (not compiled)\n", done.stderr
