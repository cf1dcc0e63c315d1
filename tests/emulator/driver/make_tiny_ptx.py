"""Make tiny.ptx from tiny.cu, as the kernels are made: `python -m tests.emulator.driver.make_tiny_ptx NVRTC_FOLDER`.

See scripts/dev/make_ptx.py for the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scripts.dev import make_ptx

HERE = Path(__file__).resolve().parent


def outdated() -> list[str]:
    """What `make_ptx.outdated` says of this folder."""
    kernels, make_ptx.KERNELS = make_ptx.KERNELS, HERE
    try:
        return make_ptx.outdated()
    finally:
        make_ptx.KERNELS = kernels


def main() -> None:
    make_ptx.KERNELS = HERE
    (HERE / "tiny.ptx").write_bytes(make_ptx.ptx_text(make_ptx.Nvrtc(Path(sys.argv[1])), "tiny"))


if __name__ == "__main__":
    main()
