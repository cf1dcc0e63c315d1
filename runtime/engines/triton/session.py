"""What one process has open to a server: connections, shared memory, threads."""

from __future__ import annotations

import queue
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ...connection import Address, Connection
from ...errors import FastSamError, ServerError
from ...system.shared_memory import SharedRegion
from .memory import SharedRegions
from .over_grpc import refuse_after_fork
from .retries import GREETING_S, LATE, retried
from .transport import Transport, open_transport

Tensors = Mapping[str, NDArray[Any]]

_SHARED_FROM_BYTES = 200_000
"""Below this the message itself is as fast as shared memory."""

_NOT_TRITONS = (ValueError, LookupError, TypeError, AttributeError, struct.error)
"""What tritonclient raises where an answer is not one of Triton's."""


class ServerSession:
    """Requests of one process to one server. Usable from many threads at once.

    Without `close`, it ends with the last reference to it or with the process: the server is told to forget the shared
    memory in either case, unless the process is killed.
    """

    def __init__(self, transport: Transport, address: Address, connection: Connection) -> None:
        """
        Args:
            transport: closed with this.

        Raises:
            ServerError: the server cannot be reached, or has no shared memory, which is required.
        """
        self._address, self._connection = address, connection
        self._transport = transport
        self._regions = _shared_regions(transport, address, connection)
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        # Not weakref.finalize: worker processes of multiprocessing end without `atexit`, but not without this. In
        # forked children it does nothing.
        self._end = Finalize(self, _end, (transport, self._regions), exitpriority=0)

    @property
    def executor(self) -> ThreadPoolExecutor:
        """Threads for as many requests as may be under way at once."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._connection.in_flight, "triton")
            return self._executor

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Outputs of one request, which is sent once.

        Raises:
            InferenceServerException, OSError: it fails.
            ServerError: the answer is none of Triton's.
        """
        try:
            return self._infer(inputs, outputs)
        except InferenceServerException as error:
            if self._regions is None or "Unable to find shared memory region" not in str(error):
                raise
            # A server that was started again knows none of our shared memory: it is told anew.
            self._regions.forget()
            return self._infer(inputs, outputs)

    def close(self) -> None:
        """End the threads, give back the shared memory, close the connections."""
        with self._lock:
            executor, self._executor = self._executor, None
        try:
            if executor is not None:
                executor.shutdown()
        finally:
            self._end()

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's."""
        self._transport.abandon()
        if self._regions is not None:
            self._regions.abandon()

    def _infer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        lent: list[SharedRegion] = []
        try:
            sent = [self._input(name, values, lent) for name, values in inputs.items()]
            wanted = [self._transport.library.InferRequestedOutput(name) for name in outputs]
            return self._tensors(lambda: self._transport.infer(sent, wanted), outputs)
        finally:
            if self._regions is not None:
                for region in lent:
                    self._regions.take_back(region)

    def _input(self, name: str, values: NDArray[Any], lent: list[SharedRegion]) -> Any:
        tensor = self._transport.library.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
        region = None
        if self._regions is not None and values.dtype != np.object_ and values.nbytes >= _SHARED_FROM_BYTES:
            region = self._regions.lend(values)  # None: the server has no access to this host's memory after all
        if region is None:
            tensor.set_data_from_numpy(values)
        else:
            lent.append(region)
            tensor.set_shared_memory(region.name, values.nbytes)
        return tensor

    def _tensors(self, ask: Callable[[], Any], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        try:
            answer = ask()
            tensors = {name: answer.as_numpy(name) for name in outputs}
        except (FastSamError, OSError):  # some of them are ValueErrors, too
            raise
        except _NOT_TRITONS as error:
            raise ServerError(
                f"{self._address.text}: the answer is none of Triton's ({error!r:.200}); "
                "does a proxy or another server answer in its place?"
            ) from error
        missing = [name for name, values in tensors.items() if values is None]
        if missing:
            raise ServerError(
                f"{self._address.text}: the answer has no output {missing[0]!r}, expected {', '.join(outputs)}; "
                "is it this model, and a server that sends all of it?"
            )
        return tensors


def session_after_fork(address: Address, connection: Connection) -> ServerSession:
    """A session of a forked child, whose parent had one.

    Raises:
        ServerError: as `ServerSession`; or gRPC's library does not work in the child: whether it does depends on its
            version, its settings and what the parent's threads were at.
    """
    transport = open_transport(address, connection) if address.transport == "http" else _working(address, connection)
    try:
        return ServerSession(transport, address, connection)
    except BaseException:
        transport.close()
        raise


def _working(address: Address, connection: Connection) -> Transport:
    """gRPC's transport, after it has answered: where it does not work, it waits for ever, beyond all time limits."""
    opened: queue.SimpleQueue[Transport | Exception] = queue.SimpleQueue()

    def open_and_ask() -> None:
        try:
            transport = open_transport(address, connection)
            try:
                transport.extensions()
            except InferenceServerException as error:
                if error.status() in LATE:
                    return
            opened.put(transport)
        except Exception as error:  # noqa: BLE001 - raised by the thread that waits
            opened.put(error)

    threading.Thread(target=open_and_ask, name="triton-after-fork", daemon=True).start()
    try:
        answer = opened.get(timeout=GREETING_S + 1)
    except queue.Empty:
        raise refuse_after_fork(address) from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _shared_regions(transport: Transport, address: Address, connection: Connection) -> SharedRegions | None:
    wanted = connection.shared_memory
    if wanted is False or not (wanted or address.on_this_host):
        return None
    try:
        extensions = retried(transport.extensions, address, connection, GREETING_S)
    except InferenceServerException:
        extensions = []  # a gateway may pass on requests to models and nothing else
    if "system_shared_memory" in extensions:
        return SharedRegions(transport, required=wanted is True)
    if wanted:
        raise ServerError(f"{address.text}: the server has no shared memory; leave shared_memory out")
    return None


def _end(transport: Transport, regions: SharedRegions | None) -> None:
    try:
        if regions is not None:
            regions.close()
    finally:
        transport.close()
