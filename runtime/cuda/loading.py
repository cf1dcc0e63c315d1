"""The kernels, loaded on a device: once, however many pipelines run there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from weakref import ReferenceType, WeakKeyDictionary, ref

from ..system.fork import ForkLock
from .kernels import NAMES, ptx_path

Triple = tuple[int, int, int]

ENTRIES: dict[str, tuple[str, ...]] = {
    "letterbox": ("letterbox_f32", "letterbox_f16"),
    "candidates": (
        "reset_summaries",
        "candidates_f32",
        "candidates_f16",
        "rank_candidates_f32",
        "rank_candidates_f16",
    ),
    "nms": (
        "suppress",
        "accept_f32",
        "accept_f16",
        "join_rows_f32",
        "join_rows_f16",
        "gather_f32",
        "gather_f16",
    ),
    "masks": ("layout_masks", "check_prototypes_f32", "check_prototypes_f16", "masks_f32", "masks_f16"),
    "prompts": ("contain", "box_overlap", "join_masks", "morph"),
}
"""Kernels of each file."""


class Launch(Protocol):
    """A kernel to be called: `Module.function` of the device layer gives it.

    Example:
        >>> module.function("contain")((4, 1, 1), (256, 1, 1), [np.uintp(0)], 0, stream)  # doctest: +SKIP
    """

    def __call__(self, grid: Triple, block: Triple, args: Sequence[Any], shared_bytes: int, stream: Any) -> None: ...


class Loaded(Protocol):
    """Loaded PTX.

    Example:
        >>> device.module(ptx_path("prompts")).function("contain")  # doctest: +SKIP
    """

    def function(self, name: str) -> Launch: ...


class Source(Protocol):
    """What loads PTX: a `Device`.

    Example:
        >>> kernels_of(device)  # doctest: +SKIP
    """

    def module(self, ptx: Path) -> Loaded: ...


class Kernels:
    """All kernels, loaded on one device.

    Attributes:
        blocks: of those kernels whose blocks take one piece of work after the other; a few for each multiprocessor.

    Example:
        >>> kernels = Kernels(device.module)  # doctest: +SKIP
    """

    def __init__(self, load: Callable[[Path], Loaded], blocks: int = 1024) -> None:
        """
        Args:
            load: `Device.module`.

        Raises:
            DeviceError: a file is missing, or the driver refuses it.
        """
        self.blocks = blocks
        self._functions: dict[str, Launch] = {}
        for name in NAMES:
            module = load(ptx_path(name))
            for entry in ENTRIES[name]:
                self._functions[entry] = module.function(entry)

    def launch(self, name: str, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], stream: Any) -> None:
        """Put one kernel into a stream; missing axes of grid and block are 1. Nothing where an axis is 0."""
        if min(grid) > 0:
            self._functions[name](_triple(grid), _triple(block), args, 0, stream)


_loaded: WeakKeyDictionary[Source, ReferenceType[Kernels]] = WeakKeyDictionary()
_loading = ForkLock()


def kernels_of(device: Source) -> Kernels:
    """The kernels on a device. They are compiled once, and unloaded when no pipeline uses them any more.

    Raises:
        DeviceError: see `Kernels`.

    Example:
        >>> kernels_of(device) is kernels_of(device)  # doctest: +SKIP
        True
    """
    with _loading:
        known = _loaded.get(device)
        kernels = known() if known is not None else None
        if kernels is None:
            kernels = Kernels(device.module)
            _loaded[device] = ref(kernels)
        return kernels


def _triple(sizes: Sequence[int]) -> Triple:
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z
