"""Shared memory that a client lends to its requests, and gives back to the server and to the system."""

from __future__ import annotations

import mmap
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any, Protocol

from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from ...errors import ServerError
from ...system.shared_memory import FOLDER, SharedRegion, abandoned_regions, is_region, remove_abandoned
from .retries import LATE

_IN_USE = "in use"
"""Part of what the server says of a region that a request still reads."""

_PATIENCE_S = 5.0
_PAUSE_S = 0.05


class RegionServer(Protocol):
    """What a server has to offer for shared memory; a `Transport` does."""

    def register(self, name: str, key: str, size: int) -> None:
        """Make a region of this host's shared memory known to it."""
        ...

    def unregister(self, name: str) -> None:
        """The contrary; nothing happens if it does not know the region."""
        ...

    def registered(self) -> list[str]:
        """Names of the regions that it knows, of all its clients."""
        ...


class SharedRegions:
    """Regions to lend, kept and used again: making one costs more than filling it. Usable from many threads at once.

    Example:
        >>> regions = SharedRegions(transport, required=False)  # doctest: +SKIP
        >>> region = regions.lend(pixels)  # doctest: +SKIP
        >>> regions.take_back(region)  # doctest: +SKIP
        >>> regions.close()  # doctest: +SKIP
    """

    def __init__(self, server: RegionServer, *, required: bool) -> None:
        """
        Args:
            server: asked for what dead clients have left behind, which is removed.
            required: a server that refuses is an error, not a reason to send the array itself.
        """
        self._server, self._required = server, required
        self._free: list[SharedRegion] = []
        self._all: list[SharedRegion] = []
        self._retired: list[SharedRegion] = []
        self._refused = self._closed = False
        self._lock = threading.Lock()
        remove_leftovers(server)

    def lend(self, values: NDArray[Any]) -> SharedRegion | None:
        """A region that begins with `values`, registered with the server; None where there is none to be had.

        Raises:
            ServerError: there is none, and it is required.
        """
        if self._refused or self._closed:
            return None
        try:
            region = self._fitting(values.nbytes)
        except OSError as error:
            self._check_not_required(f"{FOLDER} has no room for {values.nbytes:,} bytes ({error})", error)
            return None
        if region is None:
            return None
        try:
            region.write(values)
        except BaseException:
            self.take_back(region)
            raise
        return region if region.is_registered or self._register(region) else None

    def take_back(self, region: SharedRegion) -> None:
        """Let another request use it."""
        with self._lock:
            self._free.append(region)

    def forget(self) -> None:
        """The server does not know the regions any more."""
        with self._lock:
            for region in self._all:
                region.is_registered = False

    def close(self) -> None:
        """Give all regions back. The server may still read some for requests that were given up: it has a few seconds.

        What it still has then, the next client removes (`remove_leftovers`).
        """
        with self._lock:
            regions = [*self._all, *self._retired]
            self._all, self._free, self._retired, self._closed = [], [], [], True
        with ExitStack() as stack:
            for region in regions:
                stack.callback(region.destroy)
            end = time.monotonic() + _PATIENCE_S
            while regions and time.monotonic() < end:
                regions = [region for region in regions if time.monotonic() > end or not self._given_back(region)]
                if regions:
                    time.sleep(_PAUSE_S)

    def abandon(self) -> None:
        """In a forked child: the regions are the parent's."""
        for region in [*self._all, *self._retired]:
            region.abandon()

    def _register(self, region: SharedRegion) -> bool:
        """Whether the server takes a region. If not, none is offered to it any more.

        Raises:
            ServerError: it does not, and shared memory is required. What `register` raises otherwise.
        """
        region.is_registered = True  # perhaps, even where no answer comes
        try:
            self._server.register(region.name, region.key, region.size)
        except InferenceServerException as error:
            region.is_registered = error.status() in LATE
            self._refused = True
            self._retire(region)
            self._check_not_required(f"the server does not take shared memory ({error})", error)
            return False
        except BaseException:
            self._retire(region)
            raise
        remove_leftovers(self._server, is_memory_shared=True)
        return True

    def _check_not_required(self, reason: str, error: Exception) -> None:
        if self._required:
            raise ServerError(f"{reason}; leave shared_memory out") from error

    def _fitting(self, size: int) -> SharedRegion | None:
        """The smallest free region that is large enough, or a new one in the place of one too small; None if closed.

        Raises:
            OSError: there is no room for a new one.
        """
        with self._lock:
            large = [region for region in self._free if region.size >= size]
            if large:
                region = min(large, key=lambda region: region.size)
                self._free.remove(region)
                return region
            outgrown = self._free.pop() if self._free else None
        if outgrown is not None:
            self._retire(outgrown)
        region = SharedRegion(size)
        with self._lock:
            if not self._closed:
                self._all.append(region)
                return region
        region.destroy()
        return None

    def _retire(self, region: SharedRegion) -> None:
        """Give back a region that is lent to nobody, with those of earlier calls that the server was still reading."""
        with self._lock:
            if region not in self._all:  # closed meanwhile
                return
            self._all.remove(region)
            retired, self._retired = [*self._retired, region], []
        still_read = [region for region in retired if not self._given_back(region)]
        with self._lock:
            self._retired += still_read

    def _given_back(self, region: SharedRegion) -> bool:
        """Whether the server lets go of it, or cannot be asked; then it is gone."""
        if region.is_registered:
            try:
                self._server.unregister(region.name)
            except InferenceServerException as error:
                if _IN_USE in str(error) or error.status() in LATE:
                    return False
            except (OSError, ServerError):
                pass  # the server has ended, and its knowledge with it
        region.destroy()
        return True


def remove_leftovers(server: RegionServer, *, is_memory_shared: bool = False) -> None:
    """Remove regions of clients that are dead, from the server and from memory. What fails is left for the next client.

    Args:
        is_memory_shared: the server is known to see this host's shared memory, as one in a container need not. It is
            tried out where that matters: for a region that the server knows and that has no file any more.
    """
    dead = set(abandoned_regions())
    with suppress(InferenceServerException, OSError, ServerError):
        names = [name for name in server.registered() if is_region(name)]
        gone = {name for name in names if not (FOLDER / name).exists()}
        if gone and (is_memory_shared or _sees_memory(server)):
            dead |= gone
        for name in dead.intersection(names):
            with suppress(InferenceServerException):
                server.unregister(name)
    for name in dead:
        remove_abandoned(name)


def _sees_memory(server: RegionServer) -> bool:
    region = SharedRegion(mmap.PAGESIZE)
    try:
        server.register(region.name, region.key, region.size)
        server.unregister(region.name)
    except InferenceServerException:
        return False
    finally:
        region.destroy()
    return True
