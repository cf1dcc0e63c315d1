"""The sdist is the whole repository, and a wheel made of it works where there is no checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77 or newer")
pytest.importorskip("build", reason="needs the extra [dev]")

ROOT = Path(__file__).resolve().parents[2]
MADE_BY_SETUPTOOLS = re.compile(r"PKG-INFO|setup\.cfg|fastsam_deploy\.egg-info/.*")
SEGMENT = """
import sys
import fastsam_deploy
from fastsam_deploy import FastSAM
print(fastsam_deploy.__version__, fastsam_deploy.__file__)
print(len(FastSAM(device="cpu").segment(sys.argv[1])))
"""


def run(arguments: list[str], folder: Path, **environment: str) -> str:
    """Standard output of a command that must succeed. Only `environment` says where Python looks for packages."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        arguments, cwd=folder, env={**kept, **environment}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def repository_files() -> list[str]:
    """The files that Git keeps, or would keep."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a Git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    return [name for name in run(command, ROOT).split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a copy of the repository, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    for name in repository_files():
        (folder / "sources" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "sources" / name)
    run([sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(folder), "sources"], folder)
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def unpacked(sdist: Path) -> Path:
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent / "unpacked", filter="data")
    (folder,) = (sdist.parent / "unpacked").iterdir()
    return folder


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*command, "--wheel-dir", str(sdist.parent), str(sdist)], sdist.parent)
    (path,) = sdist.parent.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with what the wheel installs, and nothing else of the project."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "installed")
    return wheel.parent / "installed"


def test_the_sdist_is_the_repository(unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {name for name in names if not MADE_BY_SETUPTOOLS.fullmatch(name)} == set(repository_files())


def test_a_wheel_of_the_sdist_segments(installed: Path, tmp_path: Path) -> None:
    photograph = ROOT / "examples/images/coffee.jpg"
    output = run([sys.executable, "-c", SEGMENT, str(photograph)], tmp_path, PYTHONPATH=str(installed))
    version, place, count = output.split()
    assert Path(place).is_relative_to(installed)
    assert int(count) > 0
    assert version == re.search(r'__version__ = "(.+)"', (ROOT / "runtime/__init__.py").read_text())[1]


def test_the_wheel_holds_no_more_than_setup_lists(installed: Path) -> None:
    """MANIFEST.in is for the sdist: its checkpoint would double the size of the wheel."""
    others = ("*.pt", "*.pbtxt", ".gitkeep", "warmup")
    assert not [path for pattern in others for path in (installed / "fastsam_deploy").rglob(pattern)]


def test_the_version_stands_in_one_place(sdist: Path, wheel: Path, installed: Path) -> None:
    version = re.search(r'__version__ = "(.+)"', (ROOT / "runtime/__init__.py").read_text())[1]
    assert sdist.name == f"fastsam_deploy-{version}.tar.gz"
    assert wheel.name.startswith(f"fastsam_deploy-{version}-")
    assert f"\nVersion: {version}\n" in next(installed.glob("*.dist-info/METADATA")).read_text(encoding="utf-8")
    assert not re.search(r"^version\s*=\s*\"", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_sdist_tests_itself(unpacked: Path, installed: Path) -> None:
    """Its own tests run in it, on the wheel that was made of it."""
    tests = ["tests/test_contributing.py", "tests/runtime/masks", "tests/runtime/prompts/test_prompts.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    output = run(command, unpacked, PYTHONPATH=str(installed), PYTHONDONTWRITEBYTECODE="1")
    assert re.search(r"^\d+ passed", output, re.MULTILINE), output
