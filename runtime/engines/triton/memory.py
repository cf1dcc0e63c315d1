"""Pieces of this host's shared memory through which a Triton server reads arrays without a copy over a socket."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
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
        self._refused = False
        self._lock = threading.Lock()

    def lend(self, values: NDArray[Any]) -> SharedRegion | None:
        """A piece that holds `values`, known to the server; None where the server does not take it.

        Raises:
            ServerError: it does not take it, and it is required.
        """
        if self._refused:
            return None
        region = self._fitting(values.nbytes)
        try:
            if not region.known:
                self._register(region.name, f"/{region.name}", region.size)
                region.known = True
        except InferenceServerException as error:
            if self._required:
                self.take_back(region)
                raise ServerError(
                    f"the server does not take shared memory ({error}); leave shared_memory out"
                ) from error
            self._refused = True
            self.take_back(region)
            return None
        except BaseException:
            self.take_back(region)
            raise
        shm.set_shared_memory_region(region.handle, [values])
        return region

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
            regions, self._all, self._free, self._refused = self._all, [], [], True
        for region in regions:
            self._destroy(region)

    def _fitting(self, size: int) -> SharedRegion:
        """The smallest free piece that is large enough, or a new one in the place of one that is too small."""
        with self._lock:
            enough = [region for region in self._free if region.size >= size]
            outgrown = None
            if enough:
                region = min(enough, key=lambda one: one.size)
                self._free.remove(region)
                return region
            if self._free:
                outgrown = self._free.pop()
                self._all.remove(outgrown)
        if outgrown is not None:
            self._destroy(outgrown)
        region = SharedRegion(self, size)
        with self._lock:
            self._all.append(region)
        return region

    def _destroy(self, region: SharedRegion) -> None:
        try:
            if region.known:
                self._unregister(region.name)
        except (InferenceServerException, OSError):
            pass  # the server is gone, and its knowledge with it
        finally:
            shm.destroy_shared_memory_region(region.handle)
