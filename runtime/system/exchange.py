"""Two folders that change places in one step, where the system can do that."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import Any

_HERE = -100  # AT_FDCWD: relative paths begin at the working folder
_EXCHANGE = 2  # RENAME_EXCHANGE


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders of one file system change their names. There is no moment at which a name is missing.

    Returns:
        False: this system or this file system cannot do it (only Linux can), and nothing has changed.

    Example:
        >>> exchange(Path("missing"), Path("missing as well"))
        False
    """
    rename = _renameat2()
    return rename is not None and rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


@functools.cache
def _renameat2() -> Any:
    if sys.platform != "linux":
        return None
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # glibc has it from 2.28 on
    if rename is not None:
        rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return rename
