"""NVIDIA's two libraries with one API: TensorRT, and TensorRT for RTX.

The engine and the builder are written once. Which library they work with is a value that is passed on to them, and so
is the library's Python module (`Library.load`). Nothing here imports either library before `load`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import MissingDependencyError, ModelError, pip_install


@dataclass(frozen=True, slots=True)
class Library:
    """What is known of a library before it is imported, and what it does in another way than the other one.

    Attributes:
        name: for messages.
        engine: its name in the registry of engines.
        modules: names of its Python module; the first one that is installed is used.
        extra: pip extra that installs it.
        build_extra: pip extra that installs what building plans needs.
        tag: the first four bytes of its plans.
        suffixes: of the files that hold its plans.
        record_suffix: of the JSON beside a plan, in the place of the plan's own. Plans of both libraries may stand side
            by side.
        gpus: the GPUs that it serves, by compute capability; empty: all that its own version supports.
        compiles_late: plans hold no kernels of a GPU. Each is built for a list of GPUs, without any of them; kernels
            are compiled where the plan runs, and may be kept in a cache. What a layer computes in is in the log of
            the build.
        flag: option of `fastsam-export engine` that selects it.

    Example:
        >>> TENSORRT.tag, TENSORRT_RTX.suffixes
        (b'ftrt', ('.rtx',))
    """

    name: str
    engine: str
    modules: tuple[str, ...]
    extra: str
    build_extra: str
    tag: bytes
    suffixes: tuple[str, ...]
    record_suffix: str
    gpus: tuple[str, ...] = ()
    compiles_late: bool = False
    flag: str = ""

    def load(self, source: str | None = None, extra: str | None = None) -> Any:
        """Import the library.

        Args:
            source: what messages call the file that needs it; None: the library's name.
            extra: that messages name; None: `extra`.

        Raises:
            MissingDependencyError: it is not installed.

        Example:
            >>> TENSORRT_RTX.load().__version__  # doctest: +SKIP
            '1.7.1.116'
        """
        missing: ModuleNotFoundError | None = None
        for module in self.modules:
            try:
                return import_module(module)
            except ModuleNotFoundError as error:
                missing = missing or error
        raise MissingDependencyError(
            f"{source or self.name}: {missing}; run: {pip_install(extra or self.extra)}"
        ) from missing

    def serves(self, gpu: str) -> bool:
        """Whether it has kernels for a GPU, as far as that is known without the library.

        Example:
            >>> TENSORRT_RTX.serves("sm89"), TENSORRT_RTX.serves("sm90"), TENSORRT.serves("sm90")
            (True, False, True)
        """
        return not self.gpus or gpu in self.gpus


TENSORRT = Library("TensorRT", "tensorrt", ("tensorrt",), "trt", "trt", b"ftrt", (".plan", ".engine"), ".json")

TENSORRT_RTX = Library(
    "TensorRT for RTX",
    "tensorrt_rtx",
    ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    "rtx",
    "rtx-export",
    b"vtrt",
    (".rtx",),
    ".rtx.json",
    gpus=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
    compiles_late=True,
    flag="--rtx",
)

LIBRARIES = (TENSORRT, TENSORRT_RTX)


def library_of(path: Path) -> Library:
    """The library whose plans have this suffix.

    Raises:
        ModelError: none has.

    Example:
        >>> library_of(Path("fastsam.rtx")).name
        'TensorRT for RTX'
    """
    for library in LIBRARIES:
        if path.suffix in library.suffixes:
            return library
    known = ", ".join(suffix for library in LIBRARIES for suffix in library.suffixes)
    raise ModelError(f"{path}: suffix {path.suffix!r}, expected one of {known}; build a plan: fastsam-export engine")


def gpu_of(compute_capability: tuple[int, int]) -> str:
    """Name of a kind of GPU, as NVIDIA's compilers call it.

    Example:
        >>> gpu_of((8, 9))
        'sm89'
    """
    return f"sm{compute_capability[0]}{compute_capability[1]}"
