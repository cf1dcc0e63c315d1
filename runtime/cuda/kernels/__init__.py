"""The kernels: CUDA C in `.cu` files and the PTX made of them (scripts/dev/make_ptx.py), which the driver compiles.

Each `.cu` describes its inputs and outputs, layout.cuh the records in memory between them. launchers.py launches them.
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

    Example:
        >>> ptx_path("masks").name
        'masks.ptx'
    """
    path = Path(__file__).with_name(f"{name}.ptx")
    if not path.is_file():
        raise DeviceError(f"{path}: not there; expected the PTX of the kernels {NAMES}; install the package again")
    return path
