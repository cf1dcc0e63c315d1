"""PyCUDA and an emulated NVIDIA driver in an environment without a GPU, for the tests of the CUDA layer.

    python scripts/dev/emulated_cuda.py --environment ENVIRONMENT
    FASTSAM_EMULATED_CUDA=ENVIRONMENT/emulated-cuda ENVIRONMENT/bin/python -m pytest tests/runtime/cuda

The emulated driver (`tests/emulator/driver`) is a libcuda.so.1: device memory is host memory, and the source of the
kernels is compiled for the host. PyCUDA and cuda-bindings are the real ones; PyCUDA is compiled from source against the
headers in NVIDIA's wheels. This tests calls, contexts, threads, memory, order, graphs, and the numbers that the source
of the kernels gives. It does not test speed, or the code that NVIDIA's compiler generates.

Needs Linux with g++ (C++20) and Python's headers. PyCUDA is compiled once for each environment.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "tests/emulator/driver"
FOLDER = "emulated-cuda"
PYCUDA = "2026.1"
# For cuda.h and cudaProfiler.h. Pinned, since the symbols that PyCUDA is linked with depend on the headers.
HEADERS = ("nvidia-cuda-runtime==13.2.*", "nvidia-cuda-profiler-api==13.2.*")
BINDINGS = "cuda-bindings>=12.8"

CONFIGURATION = """
USE_SHIPPED_BOOST = True
CUDA_TRACE = False
CUDA_ENABLE_GL = False
CUDA_ENABLE_CURAND = False
CUDA_INC_DIR = [{headers!r}]
CUDADRV_LIB_DIR = [{libraries!r}]
CUDADRV_LIBNAME = ["cuda"]
CXXFLAGS = ["-O0", "-g0", "-w", "-pipe"]
LDFLAGS = []
"""


class InstallError(RuntimeError):
    """The driver or PyCUDA cannot be built."""


def install(environment: Path) -> Path:
    """Build what is missing or out of date in a virtual environment.

    Returns:
        The folder for FASTSAM_EMULATED_CUDA.

    Raises:
        InstallError: a compiler or a package is missing, or fails. The message has its output.
    """
    folder = environment / FOLDER
    folder.mkdir(exist_ok=True)
    _build_driver(folder)
    python = environment / "bin/python"
    wheel = _pycuda_wheel(folder, python)
    if _changed(folder / "installed", wheel.name, BINDINGS):
        _pip(python, "install", "--force-reinstall", "--no-deps", str(wheel))
        _pip(python, "install", f"pycuda=={PYCUDA}", BINDINGS)
        _stamp(folder / "installed", wheel.name, BINDINGS)
    return folder


def _build_driver(folder: Path) -> None:
    """Build libcuda.so.1, and the host build of the kernels for the tests of the device layer."""
    sources = sorted(path for path in DRIVER.glob("*.cpp") if path.name != "tiny_cpu.cpp")
    compiled = [path for path in sorted(DRIVER.iterdir()) if path.suffix in {".cpp", ".hpp", ".cu"}]
    everything = [path.read_text(encoding="utf-8") for path in compiled]
    if not _changed(folder / "driver", *everything):
        return
    # As one file: the compiler spends most of its time in the headers of the standard library.
    whole = folder / "driver.cpp"
    whole.write_text("".join(f'#include "{path}"\n' for path in sources), encoding="utf-8")
    _compile([str(whole), f"-I{DRIVER}", "-Wl,-soname,libcuda.so.1", "-ldl"], folder / "libcuda.so.1")
    _compile([str(DRIVER / "tiny_cpu.cpp")], folder / "libtiny.so")
    (folder / "libcuda.so").unlink(missing_ok=True)
    (folder / "libcuda.so").symlink_to("libcuda.so.1")  # the name that a linker looks for
    _stamp(folder / "driver", *everything)


def _compile(arguments: Sequence[str], output: Path) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise InstallError("no g++ found; install one, or name a C++20 compiler in CXX")
    part = output.with_suffix(".part")
    shared = ["-std=c++20", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread"]
    _call([compiler, *shared, "-o", str(part), *arguments])
    part.replace(output)


def _pycuda_wheel(folder: Path, python: Path) -> Path:
    version = _call([str(python), "-c", "import sys; print(sys.version)"])
    wheels = folder / "wheels"
    if not _changed(folder / "pycuda", PYCUDA, *HEADERS, CONFIGURATION, version):
        return next(wheels.glob("pycuda-*.whl"))
    shutil.rmtree(wheels, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="pycuda-") as folder_name:
        temporary = Path(folder_name)
        _pip(python, "install", "setuptools", "wheel", "numpy")
        _pip(python, "download", "--no-deps", "--only-binary", ":all:", "--dest", str(temporary), *HEADERS)
        wanted = ["--no-deps", "--no-build-isolation", "--no-binary", "pycuda", f"pycuda=={PYCUDA}"]
        _pip(python, "download", "--dest", str(temporary), *wanted)
        headers = _headers(temporary)
        archive = next(temporary.glob("pycuda-*.tar.gz"))
        shutil.unpack_archive(archive, temporary, filter="data")
        source = temporary / archive.name.removesuffix(".tar.gz")
        configuration = CONFIGURATION.format(headers=str(headers), libraries=str(folder))
        (source / "siteconf.py").write_text(configuration, encoding="utf-8")
        _join_sources(source)
        _pip(python, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source))
    _stamp(folder / "pycuda", PYCUDA, *HEADERS, CONFIGURATION, version)
    return next(wheels.glob("pycuda-*.whl"))


def _headers(folder: Path) -> Path:
    for wheel in folder.glob("nvidia_*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "headers", [name for name in archive.namelist() if name.endswith(".h")])
    header = next(folder.glob("headers/**/cuda.h"), None)
    if header is None or not (header.parent / "cudaProfiler.h").is_file():
        raise InstallError(f"no cuda.h beside cudaProfiler.h in {', '.join(HEADERS)}")
    return header.parent


def _join_sources(source: Path) -> None:
    """Join 40 files into three: the compiler spends its time in the headers of Boost (25 s instead of 80 s in all)."""
    python = source / "bpl-subset/bpl_subset/libs/python/src"
    _join(python / "all.cpp", sorted(python.rglob("*.cpp")))
    parts = [source / "src/cpp/cuda.cpp", source / "src/cpp/bitlog.cpp", source / "src/wrapper/mempool.cpp"]
    # The wrapper comes first: it sets the macros for NumPy's headers.
    _join(source / "src/wrapper/wrap_cudadrv.cpp", [source / "src/wrapper/wrap_cudadrv.cpp", *parts])
    for part in parts:
        part.write_text("", encoding="utf-8")  # setup.py names it


def _join(target: Path, files: Sequence[Path]) -> None:
    renamed = [path.rename(path.with_suffix(".part.hpp")) for path in files]
    target.write_text("".join(f'#include "{path}"\n' for path in renamed), encoding="utf-8")


def _changed(stamp: Path, *content: str) -> bool:
    return not stamp.is_file() or stamp.read_text(encoding="utf-8") != _digest(content)


def _stamp(stamp: Path, *content: str) -> None:
    stamp.write_text(_digest(content), encoding="utf-8")


def _digest(content: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(content).encode()).hexdigest()


def _pip(python: Path, command: str, *arguments: str) -> None:
    _call([str(python), "-m", "pip", command, "--quiet", *arguments])


def _call(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Run the command: install into an environment and print the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="a virtual environment")
    args = parser.parse_args()
    began = time.monotonic()
    try:
        folder = install(args.environment.resolve())
    except InstallError as error:
        print(f"emulated_cuda: {error}", file=sys.stderr)
        return 2
    print(f"{folder} ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
