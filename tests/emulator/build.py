"""Compiles the kernels with g++: `python tests/emulator/build.py FOLDER [--sanitize]` prints the library's path."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
KERNELS = HERE.parents[1] / "runtime/cuda/kernels"
# Without contraction to fused operations: the device code is compiled so, and equality to the last bit rests on it.
FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror")
FLAGS += ("-Wno-unknown-pragmas",)  # `unroll` is one of nvcc
SANITIZE = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")


class NoCompilerError(RuntimeError):
    """There is no g++ on the path."""


def build_cpu_kernels(folder: Path, sanitize: bool = False) -> Path:
    """Compile all kernels into one library in `folder`; its table is described in cuda_cpu.h.

    Raises:
        NoCompilerError: g++ is absent.
        RuntimeError: it reports an error or a warning.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise NoCompilerError("g++ is not on the path; install it to run the kernels on the CPU")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "libcpu_kernels.so"
    # Under a name of its own first: several test processes may share the folder.
    unfinished = folder / f".libcpu_kernels.{os.getpid()}.so"
    flags = (*FLAGS, *(SANITIZE if sanitize else ()), f"-I{KERNELS}", f"-I{HERE}")
    command = [compiler, *flags, str(HERE / "cpu_kernels.cpp"), "-o", str(unfinished)]
    # The sanitizer that the tests may run under is not for the compiler: it would take three times as long.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        raise RuntimeError(f"g++ does not compile the kernels:\n{done.stderr}")
    return unfinished.replace(library)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sanitize", action="store_true", help="with address and undefined-behaviour sanitizers")
    given = parser.parse_args()
    print(build_cpu_kernels(given.folder, given.sanitize))
