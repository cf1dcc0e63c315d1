"""The sources under AddressSanitizer and UndefinedBehaviorSanitizer, on random shapes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FLAGS = ["-std=c++17", "-O1", "-g", "-fPIC", "-shared", "-ffp-contract=off", "-fno-sanitize-recover=all"]

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None, reason="needs g++ on Linux and its sanitizers"
)


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("sanitized") / "sanitized.so"
    sources = sorted(str(path) for path in (ROOT / "runtime/native/source").glob("*.cpp"))
    subprocess.run(["g++", *FLAGS, "-fsanitize=address,undefined", *sources, "-o", str(library)], check=True)
    return library


def run(library: Path, cases: int, seed: int) -> str:
    preload = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    environment = {
        **os.environ,
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps much until it ends
        "PYTHONMALLOC": "malloc",  # so that every array has guarded ends
    }
    command = [sys.executable, "-m", "tests.runtime.native", str(library), "--cases", str(cases), "--seed", str(seed)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


def test_random_shapes_touch_nothing_beyond_the_arrays(sanitized: Path) -> None:
    assert run(sanitized, 30, 1).startswith("30 cases on portable")


@pytest.mark.slow
def test_many_random_shapes_touch_nothing_beyond_the_arrays(sanitized: Path) -> None:
    assert run(sanitized, 1500, 2).startswith("1500 cases on portable")


def test_the_sanitizer_sees_what_lies_beyond(sanitized: Path, tmp_path: Path) -> None:
    """Without a check in Python, a read beyond an array ends the process."""
    code = (
        "import ctypes, numpy as np, sys\n"
        "from fastsam_deploy.runtime.native.library import _loaded\n"
        "words, text = np.zeros(4, np.uint32), np.zeros(64, np.uint8)\n"
        "_loaded(sys.argv[1]).fastsam_rle(words.ctypes.data, 99999, 1, 0, 0, 99999, 32, text.ctypes.data, 64)\n"
    )
    preload = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {**os.environ, "LD_PRELOAD": preload.stdout.strip(), "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-c", code, str(sanitized)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0 and "AddressSanitizer" in done.stderr
