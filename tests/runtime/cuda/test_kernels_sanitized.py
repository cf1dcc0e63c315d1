"""The kernels' tests again, on a build with the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
EDGES = "edge or counts or column or bits or split or past or finite or thumbnail or fit"


def _run(*selected: str) -> subprocess.CompletedProcess[str]:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not on the path; install it to run the kernels on the CPU")
    asked = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = Path(asked.stdout.strip())
    if not library.is_absolute():
        pytest.skip("g++ has no libasan; install it to run the kernels under the sanitizers")
    environment = {
        **os.environ,
        "FASTSAM_SANITIZE": "1",
        "LD_PRELOAD": str(library),
        # Python frees nothing at its end; NumPy asks for more than there is and copes.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=0",
    }
    modules = [str(HERE / f"test_kernels_{name}.py") for name in ("letterbox", "decode", "masks", "prompts")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *modules, *selected]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_edge_sizes_touch_no_memory_but_their_own():
    done = _run("-m", "not slow and not gpu", "-k", f"({EDGES}) and not 30000 and not photographs")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout


@pytest.mark.slow
def test_all_of_them_touch_no_memory_but_their_own():
    done = _run("-m", "(slow or not slow) and not gpu")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
