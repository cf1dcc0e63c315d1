"""The kernels: CUDA C in `.cu` files and the PTX made of them (scripts/dev/make_ptx.py), which the driver compiles.

Each `.cu` says what it takes and gives; layout.cuh what lies in memory between them. Their launchers stand beside this
folder, one module for each stage.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import DeviceError

NAMES = ("letterbox", "candidates", "nms", "masks", "prompts")
"""One `.cu` and one `.ptx` each."""


def ptx_path(name: str) -> Path:
    """The PTX of one of NAMES.

    Raises:
        DeviceError: the package was installed without it.
    """
    path = Path(__file__).with_name(f"{name}.ptx")
    if not path.is_file():
        raise DeviceError(f"{path}: not there; expected the PTX of the kernels {NAMES}; install the package again")
    return path
