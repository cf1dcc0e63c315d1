#!/usr/bin/env python3
"""Make the PTX of the CUDA kernels, after any change to them: `python scripts/dev/make_ptx.py --nvrtc FOLDER`.

The PTX is for compute_75, the oldest GPU that CUDA 13 and TensorRT 10 support; the driver compiles it for newer ones. A
driver refuses PTX of a newer CUDA version, so it is made with an old compiler, NVRTC 12.0 (drivers from 525 on):

    pip install --no-deps --target nvrtc nvidia-cuda-nvrtc-cu12==12.0.140
    python scripts/dev/make_ptx.py --nvrtc nvrtc

`--check` writes nothing and exits with 1 if a file does not match its source. It needs no compiler.
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
"""Version of NVRTC for the shipped files."""
OPTIONS = ("--std=c++17", "--fmad=false", "--gpu-architecture=compute_75")
"""No fused multiply-add: boxes, suppression and letterbox are equal to NumPy's to the last bit."""


class Nvrtc:
    """NVIDIA's run-time compiler. It needs no GPU."""

    def __init__(self, folder: Path) -> None:
        """Load the library, anywhere in `folder` (a pip target or site-packages).

        Raises:
            FileNotFoundError: it is not there.
        """
        libraries = sorted(path for path in folder.rglob("libnvrtc.so.*") if ".alt." not in path.name)
        if not libraries:
            raise FileNotFoundError(f"{folder}: no libnvrtc.so.* in it; see `make_ptx.py --help` for the pip command")
        for builtins in libraries[0].parent.glob("libnvrtc-builtins.so.*"):  # NVRTC finds it only if it is loaded
            if "alt" not in builtins.name:
                ctypes.CDLL(str(builtins))
        self._library = ctypes.CDLL(str(libraries[0]))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        self.version = (major.value, minor.value)

    def architectures(self) -> list[int]:
        """Numbers of the GPU architectures that it supports: 75 is sm_75."""
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
    """Names of all `.cu` files."""
    return sorted(path.stem for path in KERNELS.glob("*.cu"))


def source_sha256(name: str) -> str:
    """SHA-256 of everything that the PTX depends on: the options, the source and all headers."""
    digest = hashlib.sha256(" ".join(OPTIONS).encode())
    for path in (KERNELS / f"{name}.cu", *sorted(KERNELS.glob("*.cuh"))):
        # Git may have changed the line ends on checkout.
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def ptx_text(nvrtc: Nvrtc, name: str) -> bytes:
    """Content of the file `name`.ptx. The same compiler always gives the same bytes."""
    head = (
        f"// {name}.cu, made by scripts/dev/make_ptx.py; do not edit\n"
        f"// NVRTC {nvrtc.version[0]}.{nvrtc.version[1]} {' '.join(OPTIONS)}\n"
        f"// source SHA-256 {source_sha256(name)}\n"
    )
    return head.encode() + nvrtc.compile(name, OPTIONS) + b"\n"


def outdated() -> list[str]:
    """One line for each PTX file that is missing, has no source, or does not match it."""
    problems = [
        f"{path.name}: has no source; delete it" for path in KERNELS.glob("*.ptx") if path.stem not in kernel_names()
    ]
    for name in kernel_names():
        path = KERNELS / f"{name}.ptx"
        match = re.search(rb"^// source SHA-256 ([0-9a-f]{64})$", path.read_bytes(), re.M) if path.is_file() else None
        if match is None or match[1].decode() != source_sha256(name):
            problems.append(f"{path.name}: not made of the present source; run scripts/dev/make_ptx.py")
    return problems


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, without runtime/system/atomic.py: the package need not be installed."""
    draft = path.with_suffix(".part")
    draft.write_bytes(content)
    draft.replace(path)


def main() -> int:
    """Run the command: write the PTX files, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvrtc", type=Path, metavar="FOLDER", help="where pip installed the compiler")
    parser.add_argument("--check", action="store_true", help="only say which files are outdated")
    args = parser.parse_args()
    if args.check:
        print("\n".join(outdated()) or "all PTX files are made of the present sources")
        return bool(outdated())
    if args.nvrtc is None:
        parser.error("--nvrtc FOLDER is required: where pip installed the compiler (see above)")
    try:
        nvrtc = Nvrtc(args.nvrtc)
        if nvrtc.version != VERSION:
            actual, expected = (".".join(map(str, version)) for version in (nvrtc.version, VERSION))
            raise RuntimeError(
                f"NVRTC is {actual}, expected {expected}: older drivers refuse the PTX of a newer version"
            )
        texts = {name: ptx_text(nvrtc, name) for name in kernel_names()}  # all or none
    except (FileNotFoundError, RuntimeError) as error:
        print(f"make_ptx: {error}", file=sys.stderr)
        return 2
    for name, content in texts.items():
        _write(KERNELS / f"{name}.ptx", content)
        print(f"{name}.ptx: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
