"""The compiled library: where it lies, whether it may be used, and what its functions take.

It is a plain shared library that ctypes calls, so that one wheel serves every version of Python; ctypes releases the
interpreter's lock during a call. `pip install` builds it where there is a C++ compiler. Where there is none, NumPy does
the same work, and `fastsam doctor` says so.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import Final

from ..errors import MissingDependencyError, ParameterError

VARIABLE = "FASTSAM_NATIVE"
"""0 switches the compiled code off; a name of LEVELS chooses among its instruction sets, for comparisons."""

ABI = 4
"""FASTSAM_ABI of `source/api.h` that this module was written for."""

LEVELS: Final = ("portable", "neon", "avx2", "avx512")
"""Names of FastsamLevel in `source/api.h`."""

_FILES = {"win32": "fastsam_native.dll", "darwin": "libfastsam_native.dylib"}
PATH = Path(__file__).parent / _FILES.get(sys.platform, "libfastsam_native.so.1")
"""Python takes a file whose name ends in `.so` for a module of its own, hence the number."""

_REPAIR = (
    "install the package again (pip install --force-reinstall --no-deps fastsam-deploy; in a checkout: python setup.py "
    f"build_ext --inplace, or delete the file), or set {VARIABLE}=0 to use NumPy"
)

_I32, _I64, _F32, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_FUNCTIONS: Final = {
    "fastsam_best_level": (_I32, ()),
    "fastsam_has_level": (_I32, (_I32,)),
    "fastsam_masks": (
        _I32,
        (
            *(_POINTER, _I64, _I64, _POINTER, _I64, _I64, _POINTER),
            *(_POINTER, _POINTER, _I64, _POINTER, _POINTER, _I64),
            *(_F32, _POINTER, _POINTER, _POINTER, _I32),
        ),
    ),
    "fastsam_decode": (_I64, (*(_POINTER, _I64, _I64, _I64), *(_F32,) * 3, _I64, _I64, *(_POINTER,) * 3, _I32)),
    "fastsam_nms": (_I64, (_POINTER, _I64, _F32, _I64, _POINTER, _I32)),
    "fastsam_planes": (_I32, (_POINTER, _I64, _I64, _I64, _POINTER, _I64, _I64, _I32)),
    "fastsam_resized": (_I32, (_POINTER, *(_I64,) * 5, _POINTER, _I64, _I64, _I32)),
    "fastsam_rle": (_I64, (_POINTER, _I64, _I64, _I64, _I64, _I64, _I64, _POINTER, _I64)),
    "fastsam_inside": (_I32, (*(_POINTER, _POINTER, _POINTER, _I64), *(_POINTER, _I64, _POINTER, _I32))),
    "fastsam_shared": (_I32, (*(_POINTER,) * 6, *(_POINTER, _I64, _POINTER, _POINTER, _I32))),
}
"""Name → type of the answer, and of the arguments."""


class Library:
    """The loaded library at one level of instructions.

    Attributes:
        functions: of ctypes, by name.
        level: the number of the instruction set that its functions are told to use.
    """

    def __init__(self, functions: ctypes.CDLL, level: int) -> None:
        self.functions = functions
        self.level = level

    @property
    def level_name(self) -> str:
        """The instruction set: "avx512", "avx2", "neon" or "portable"."""
        return LEVELS[self.level]

    @property
    def has_resize(self) -> bool:
        """Whether its resizing is worth it: at other levels it is right, and slower than OpenCV."""
        return self.level_name in ("avx2", "avx512")


def library() -> Library | None:
    """The library at the level that FASTSAM_NATIVE or the processor gives; None: NumPy does the work.

    Raises:
        MissingDependencyError: there is a library that does not load, or one of another version.
        ParameterError: FASTSAM_NATIVE has a value that is none, or names instructions that the processor lacks.

    Example:
        >>> compiled = library()
        >>> compiled is None or compiled.level_name in LEVELS
        True
    """
    return _library_for(os.environ.get(VARIABLE, ""))


def state() -> str:
    """What computes masks, for people: the library and its instruction set, or NumPy and why.

    Raises:
        MissingDependencyError, ParameterError: see `library`.

    Example:
        >>> state()  # doctest: +SKIP
        'compiled (avx2)'
    """
    loaded = library()
    if loaded is not None:
        return f"compiled ({loaded.level_name})"
    return f"NumPy ({VARIABLE}=0)" if os.environ.get(VARIABLE) == "0" else "NumPy (not compiled)"


@functools.cache
def _library_for(wanted: str) -> Library | None:
    if wanted not in {"", "0", *LEVELS}:
        raise ParameterError(f"{VARIABLE} is {wanted!r}, expected 0 or one of {', '.join(LEVELS)}; or unset it")
    if wanted == "0" or not PATH.is_file():
        if wanted in LEVELS:
            raise MissingDependencyError(f"{VARIABLE}={wanted}, but there is no {PATH}; {_REPAIR}")
        return None
    functions = _loaded(PATH)
    level = LEVELS.index(wanted) if wanted else functions.fastsam_best_level()
    if not functions.fastsam_has_level(level):
        raise ParameterError(f"{VARIABLE} is {wanted!r}, which this processor or this library lacks; unset it")
    return Library(functions, level)


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        functions = ctypes.CDLL(str(path))
        version = functions.fastsam_abi()
    except (OSError, AttributeError) as error:
        raise MissingDependencyError(f"{path} does not load ({error}); {_REPAIR}") from error
    if version != ABI:
        raise MissingDependencyError(f"{path} is of version {version}, expected {ABI}; {_REPAIR}")
    for name, (answer, arguments) in _FUNCTIONS.items():
        function = getattr(functions, name)
        function.restype, function.argtypes = answer, arguments
    return functions
