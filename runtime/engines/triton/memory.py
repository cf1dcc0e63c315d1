"""Pieces of this host's shared memory through which a Triton server reads arrays without a copy over a socket."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from ...errors import ServerError


class SharedRegion:
    """A piece that one request uses; `give_back` when its answer is there."""

    def __init__(self, owner: SharedRegions, size: int) -> None:
        self._owner = owner
        self.size = size
        self.name = f"fastsam_{os.getpid()}_{uuid.uuid4().hex}"
        self.handle: Any = shm.create_shared_memory_region(self.name, f"/{self.name}", size)
        self.known = False

    def give_back(self) -> None:
        """Let another request use it."""
        self._owner.take_back(self)


class SharedRegions:
    """Pieces to lend, kept and used again: making one costs more than filling it. Safe with many threads."""

    def __init__(
        self, register: Callable[[str, str, int], None], unregister: Callable[[str], None], required: bool
    ) -> None:
        """
        Args:
            register: tells the server of a piece: name, key, bytes.
            unregister: the contrary: name.
            required: a server that does not take it is an error, not a reason to send the array itself.
        """
        self._register, self._unregister, self._required = register, unregister, required
        self._free: list[SharedRegion] = []
        self._all: list[SharedRegion] = []
        self._refused = self._closed = False
        self._lock = threading.Lock()

    def lend(self, values: NDArray[Any]) -> SharedRegion | None:
        """A piece that holds `values`, known to the server; None where the server does not take it.

        Raises:
            ServerError: it does not take it, and it is required.
        """
        if self._refused or self._closed:
            return None
        region = self._fitting(values.nbytes)
        if region is None:
            return None
        try:
            shm.set_shared_memory_region(region.handle, [values])
        except BaseException:
            self.take_back(region)
            raise
        return region if region.known or self._tell(region) else None

    def take_back(self, region: SharedRegion) -> None:
        """Called by the region."""
        with self._lock:
            self._free.append(region)

    def forget(self) -> None:
        """The server knows none of the pieces any more."""
        with self._lock:
            for region in self._all:
                region.known = False

    def close(self) -> None:
        """Give all of it back to the system."""
        with self._lock:
            regions, self._all, self._free, self._closed = self._all, [], [], True
        with ExitStack() as stack:  # each of them, even where one fails
            for region in regions:
                stack.callback(self._destroy, region)

    def _tell(self, region: SharedRegion) -> bool:
        """Make a piece known to the server; False where the server refuses: no more are offered to it then.

        Raises:
            ServerError: it refuses, and shared memory is required. What `register` raises otherwise.
        """
        try:
            self._register(region.name, f"/{region.name}", region.size)
        except InferenceServerException as error:
            self.take_back(region)
            if self._required:
                raise ServerError(
                    f"the server does not take shared memory ({error}); leave shared_memory out"
                ) from error
            self._refused = True
            return False
        except BaseException:
            region.known = True  # perhaps it is: neither side keeps the piece
            with self._lock:
                kept = region in self._all
                if kept:
                    self._all.remove(region)
            if kept:
                self._destroy(region)
            raise
        region.known = True
        return True

    def _fitting(self, size: int) -> SharedRegion | None:
        """The smallest free piece that is large enough, or a new one in the place of one too small; None if closed."""
        with self._lock:
            enough = [region for region in self._free if region.size >= size]
            outgrown = None
            if enough:
                region = min(enough, key=lambda piece: piece.size)
                self._free.remove(region)
                return region
            if self._free:
                outgrown = self._free.pop()
                self._all.remove(outgrown)
        if outgrown is not None:
            self._destroy(outgrown)
        region = SharedRegion(self, size)
        with self._lock:
            if not self._closed:
                self._all.append(region)
                return region
        self._destroy(region)
        return None

    def _destroy(self, region: SharedRegion) -> None:
        try:
            if region.known:
                self._unregister(region.name)
        except (InferenceServerException, OSError):
            pass  # the server is gone, and its knowledge with it
        finally:
            shm.destroy_shared_memory_region(region.handle)
