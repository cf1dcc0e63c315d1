#!/usr/bin/env python3
"""Make the PTX of the CUDA kernels, after any change of one: `python scripts/dev/make_ptx.py --nvrtc FOLDER`.

The PTX is for compute_75, the oldest GPU that CUDA 13 and TensorRT 10 know; the driver compiles it for newer ones. A
driver refuses PTX of a CUDA newer than itself, so it is made with an old compiler, NVRTC 12.0 (drivers from 525 on):

    pip install --no-deps --target nvrtc nvidia-cuda-nvrtc-cu12==12.0.140
    python scripts/dev/make_ptx.py --nvrtc nvrtc

`--check` writes nothing and exits with 1 where a file is not what its source says. It needs no compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import re
import sys
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[2] / "runtime/cuda/kernels"
VERSION = (12, 0)
"""Of the NVRTC that the shipped files are made with."""
OPTIONS = ("--std=c++17", "--fmad=false", "--gpu-architecture=compute_75")
"""No contraction to fused operations: boxes, suppression and letterbox are equal to NumPy's to the last bit."""


class Nvrtc:
    """NVIDIA's run-time compiler. It needs no GPU."""

    def __init__(self, folder: Path) -> None:
        """Load the library that lies anywhere in `folder` (a pip target or site-packages).

        Raises:
            FileNotFoundError: there is none.
        """
        libraries = sorted(path for path in folder.rglob("libnvrtc.so.*") if ".alt." not in path.name)
        if not libraries:
            raise FileNotFoundError(f"{folder}: no libnvrtc.so.* in it; see `make_ptx.py --help` for the pip line")
        for builtins in libraries[0].parent.glob("libnvrtc-builtins.so.*"):  # looked up by name only, so loaded first
            if "alt" not in builtins.name:
                ctypes.CDLL(str(builtins))
        self._library = ctypes.CDLL(str(libraries[0]))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = (major.value, minor.value)

    def architectures(self) -> list[int]:
        """Numbers of the GPU architectures that it can make binaries for: 75 is sm_75."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        numbers = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(numbers))
        return list(numbers)

    def compile(self, name: str, options: tuple[str, ...], binary: bool = False) -> bytes:
        """The PTX (or, for a `sm_` architecture, the binary) of a kernel file.

        Raises:
            RuntimeError: the compiler reports an error.
        """
        headers = sorted(KERNELS.glob("*.cuh"))
        texts = (ctypes.c_char_p * len(headers))(*(path.read_bytes() for path in headers))
        names = (ctypes.c_char_p * len(headers))(*(path.name.encode() for path in headers))
        source = (KERNELS / f"{name}.cu").read_bytes()
        program = ctypes.c_void_p()
        self._check(
            self._library.nvrtcCreateProgram(
                ctypes.byref(program), source, f"{name}.cu".encode(), len(headers), texts, names
            )
        )
        try:
            flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            if self._library.nvrtcCompileProgram(program, len(options), flags):
                raise RuntimeError(f"{name}.cu: {self._read(program, 'ProgramLog').decode(errors='replace')}")
            return self._read(program, "CUBIN") if binary else self._read(program, "PTX")
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        content = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, content))
        return content.raw if what == "CUBIN" else content.raw.rstrip(b"\0")

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(f"NVRTC: {self._library.nvrtcGetErrorString(status).decode()}")


def kernel_names() -> list[str]:
    """Of all `.cu` files."""
    return sorted(path.stem for path in KERNELS.glob("*.cu"))


def source_sha256(name: str) -> str:
    """SHA-256 of what the PTX is made of: the options, the source and the headers that it may include."""
    digest = hashlib.sha256(" ".join(OPTIONS).encode())
    for path in (KERNELS / f"{name}.cu", *sorted(KERNELS.glob("*.cuh"))):
        # Line ends as in the repository, however it was checked out.
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def ptx_text(nvrtc: Nvrtc, name: str) -> bytes:
    """What the file `name`.ptx holds. The same compiler makes the same bytes."""
    head = (
        f"// {name}.cu, made by scripts/dev/make_ptx.py; do not edit\n"
        f"// NVRTC {nvrtc.version[0]}.{nvrtc.version[1]} {' '.join(OPTIONS)}\n"
        f"// source SHA-256 {source_sha256(name)}\n"
    )
    return head.encode() + nvrtc.compile(name, OPTIONS) + b"\n"


def outdated() -> list[str]:
    """One line for each PTX file that is missing, left over, or not made of the present source."""
    problems = [
        f"{path.name}: has no source; delete it" for path in KERNELS.glob("*.ptx") if path.stem not in kernel_names()
    ]
    for name in kernel_names():
        path = KERNELS / f"{name}.ptx"
        found = re.search(rb"^// source SHA-256 ([0-9a-f]{64})$", path.read_bytes(), re.M) if path.is_file() else None
        if found is None or found[1].decode() != source_sha256(name):
            problems.append(f"{path.name}: not made of the present source; run scripts/dev/make_ptx.py")
    return problems


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all. Not by runtime/system/atomic.py, for which the package would have to be installed."""
    draft = path.with_suffix(".part")
    draft.write_bytes(content)
    draft.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvrtc", type=Path, metavar="FOLDER", help="where pip installed the compiler")
    parser.add_argument("--check", action="store_true", help="only say which files are outdated")
    given = parser.parse_args()
    if given.check:
        print("\n".join(outdated()) or "all PTX files are made of the present sources")
        return bool(outdated())
    if given.nvrtc is None:
        parser.error("--nvrtc FOLDER is needed: where pip installed the compiler (see above)")
    try:
        nvrtc = Nvrtc(given.nvrtc)
        if nvrtc.version != VERSION:
            found, wanted = (".".join(map(str, version)) for version in (nvrtc.version, VERSION))
            raise RuntimeError(
                f"NVRTC is {found}, expected {wanted}: the PTX of a newer one is refused by older drivers"
            )
        made = {name: ptx_text(nvrtc, name) for name in kernel_names()}  # all or none
    except (FileNotFoundError, RuntimeError) as error:
        print(f"make_ptx: {error}", file=sys.stderr)
        return 2
    for name, content in made.items():
        _write(KERNELS / f"{name}.ptx", content)
        print(f"{name}.ptx: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
