"""Page-locked memory for answers: it is lent to them, and used again when the last array that shows it is gone."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .driver.device import Device
from .driver.memory import PinnedMemory

MOST_LENT = 8
"""Pieces that answers may hold; further answers are copied into ordinary memory. A program that keeps the masks of
thousands of images must not keep thousands of pieces of page-locked memory."""

LEAST_LENT_BYTES = 1 << 20
"""Smaller answers are copied: that takes 50 µs, and a piece is not held for them."""

_SPARE = 1.25


class PinnedPool:
    """Pieces of page-locked memory. Safe to use from many threads.

    Example:
        >>> pool = PinnedPool(device)  # doctest: +SKIP
        >>> piece = pool.take(4 << 20)  # doctest: +SKIP
        >>> stream.copy_out(piece.array[:nbytes], words)  # doctest: +SKIP
        >>> answer = pool.handed_out(piece, nbytes)  # doctest: +SKIP
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._shelf = _Shelf()

    def take(self, nbytes: int) -> PinnedMemory:
        """A piece of at least so many bytes, for the caller alone until `handed_out` or `put_back`.

        Raises:
            DeviceError: there is not enough memory.
        """
        piece = self._shelf.fitting(nbytes)
        return piece or self._device.pinned(max(int(nbytes * _SPARE), LEAST_LENT_BYTES))

    def put_back(self, piece: PinnedMemory) -> None:
        """Keep a piece for the next `take`."""
        self._shelf.put(piece)

    def handed_out(self, piece: PinnedMemory, nbytes: int) -> NDArray[np.uint8]:
        """(nbytes,) uint8 of the piece's beginning, for as long as the caller likes; the pool has the piece again.

        Large answers get the memory itself, small ones a copy.
        """
        if nbytes < max(LEAST_LENT_BYTES, piece.nbytes // 4) or not self._shelf.may_lend():
            copied = np.array(piece.array[:nbytes])
            self.put_back(piece)
            return copied
        array: NDArray[np.uint8] = np.asarray(_Loan(piece, self._shelf))
        return array[:nbytes]

    def close(self) -> None:
        """Free what is not lent; what is lent is freed when it comes back."""
        self._shelf.close()


class _Shelf:
    """The pieces that nobody uses. `deque` is thread-safe: pieces come back when arrays go, in any thread."""

    def __init__(self) -> None:
        self._free: deque[PinnedMemory] = deque()
        self._lent = 0
        self._is_closed = False

    def fitting(self, nbytes: int) -> PinnedMemory | None:
        """A free piece that is large enough. Free ones that are not are given up."""
        while True:
            try:
                piece = self._free.pop()
            except IndexError:
                return None
            if piece.nbytes >= nbytes:
                return piece
            piece.free()

    def put(self, piece: PinnedMemory) -> None:
        if self._is_closed:
            piece.free()
        else:
            self._free.append(piece)

    def may_lend(self) -> bool:
        """Count one more piece as lent, unless too many are."""
        if self._lent >= MOST_LENT:
            return False
        self._lent += 1
        return True

    def returned(self, piece: PinnedMemory) -> None:
        self._lent -= 1
        self.put(piece)

    def close(self) -> None:
        self._is_closed = True
        while self._free:
            self._free.pop().free()


class _Loan:
    """The memory of a piece. Arrays that show it keep this alive."""

    def __init__(self, piece: PinnedMemory, shelf: _Shelf) -> None:
        self._piece, self._shelf = piece, shelf
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "data": (piece.pointer, False),
            "shape": (piece.nbytes,),
            "typestr": "|u1",
        }

    def __del__(self) -> None:
        self._shelf.returned(self._piece)
