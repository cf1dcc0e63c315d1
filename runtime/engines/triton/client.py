"""Requests to one model on a Triton server: time limits, retries, shared memory, many at once."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ...connection import Address, Connection
from ...errors import FastSamError, ModelError, ServerError
from .memory import SharedRegion, SharedRegions
from .proxy import proxy_note
from .transport import GREETING_S, Transport, open_transport

Tensors = Mapping[str, NDArray[Any]]
Result = TypeVar("Result")
_AWAY = ("StatusCode.UNAVAILABLE", "503")
_LATE = ("StatusCode.DEADLINE_EXCEEDED", "499")
_SHARED_FROM_BYTES = 200_000
"""Below this the message itself is as fast as shared memory."""

_MOST_DOUBLINGS = 20
_NO_ANSWER = (ValueError, LookupError, TypeError, AttributeError, struct.error)
"""What tritonclient raises where an answer is not one of Triton's."""


class TritonClient:
    """One model on one server. `infer` may be called from many threads at once."""

    def __init__(self, address: Address, connection: Connection) -> None:
        """
        Raises:
            ServerError: the server cannot be reached. ModelError: it does not have the model.
        """
        self.address = address
        self._connection = connection
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self._regions: SharedRegions | None = None
        self._transport: Transport = open_transport(address, connection)
        try:
            self.config = self._read_config()
            self._regions = self._shared_regions()
        except BaseException:
            self.close()
            raise

    @property
    def in_flight(self) -> int:
        """How many requests are under way at once."""
        return self._connection.in_flight

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Outputs of one request.

        Raises:
            InferenceServerException: the server refuses the request or fails.
            ServerError: it is away or busy, and stays so, or takes too long.
        """
        return self._retried(lambda: self._infer_once(inputs, outputs), self._connection.timeout_s)

    def infer_many(
        self, requests: Sequence[Tensors], outputs: Sequence[str]
    ) -> list[dict[str, NDArray[Any]] | Exception]:
        """Outputs of each request, or its error, in their order; several are under way at once."""

        def infer_one(inputs: Tensors) -> dict[str, NDArray[Any]] | Exception:
            try:
                return self.infer(inputs, outputs)
            except (InferenceServerException, ServerError, ModelError) as error:
                return error

        if len(requests) == 1:
            return [infer_one(requests[0])]
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._connection.in_flight, "triton")
            executor = self._executor
        return list(executor.map(infer_one, requests))

    def close(self) -> None:
        """Close the connections; twice is as good as once."""
        with self._lock:
            closed, self._closed = self._closed, True
            executor, self._executor = self._executor, None
        if closed:
            return
        with ExitStack() as stack:  # in reverse; each of them, even where one fails
            stack.callback(self._transport.close)
            if self._regions is not None:
                stack.callback(self._regions.close)
            if executor is not None:
                stack.callback(executor.shutdown)

    def _infer_once(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        lent: list[SharedRegion] = []
        try:
            sent = [self._input(name, values, lent) for name, values in inputs.items()]
            wanted = [self._transport.library.InferRequestedOutput(name) for name in outputs]
            return self._tensors(lambda: self._transport.infer(sent, wanted), outputs)
        finally:
            for region in lent:
                region.give_back()

    def _tensors(self, ask: Callable[[], Any], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        try:
            answer = ask()
            tensors = {name: answer.as_numpy(name) for name in outputs}
        except (FastSamError, OSError):  # some of them are ValueErrors, too
            raise
        except _NO_ANSWER as error:
            raise ServerError(
                f"{self.address.text}: the answer is none of Triton's ({error!r:.200}); "
                "does a proxy or another server answer in its place?"
            ) from error
        missing = [name for name, values in tensors.items() if values is None]
        if missing:
            raise ServerError(
                f"{self.address.text}: the answer has no output {missing[0]!r}, expected {', '.join(outputs)}; "
                "is it this model, and a server that sends all of it?"
            )
        return tensors

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

    def _shared_regions(self) -> SharedRegions | None:
        wanted = self._connection.shared_memory
        if wanted is False or not (wanted or self.address.on_this_host):
            return None
        if "system_shared_memory" not in self._extensions():
            if wanted:
                raise ServerError(f"{self.address.text}: the server has no shared memory; leave shared_memory out")
            return None
        return SharedRegions(self._transport.register, self._transport.unregister, required=wanted is True)

    def _extensions(self) -> list[str]:
        try:
            return self._retried(self._transport.extensions, GREETING_S)
        except InferenceServerException:
            return []  # a gateway may pass on requests to models and nothing else

    def _read_config(self) -> dict[str, Any]:
        try:
            config = self._retried(self._transport.config, GREETING_S)
        except InferenceServerException as error:
            if "is not found" in str(error) or "unknown model" in str(error):
                raise ModelError(
                    f"{self.address.text}: the server has no such model ready ({error.message()}); "
                    "check its name and version, and the server's log"
                ) from error
            raise ServerError(
                f"{self.address.text}: {error}; is it a Triton server?{proxy_note(self.address)}"
            ) from error
        if not all(_are_tensors(config.get(kind)) for kind in ("input", "output")):
            raise ServerError(
                f"{self.address.text}: what should be the model's configuration names no inputs and outputs (it has "
                f"{', '.join(map(str, config)) or 'nothing':.100}); is it a Triton server that answers?"
            )
        return config

    def _retried(self, call: Callable[[], Result], timeout_s: float) -> Result:
        connection = self._connection
        reminded = False
        for attempt in count():
            if self._closed:
                raise ModelError(f"{self.address.text}: the connection is closed; open the model again")
            try:
                return call()
            except (InferenceServerException, OSError) as error:
                status = error.status() if isinstance(error, InferenceServerException) else None
                if status in _LATE or isinstance(error, TimeoutError):
                    raise ServerError(
                        f"{self.address.text}: no answer within {timeout_s:g} s; is the server too busy? "
                        f"give a longer timeout_s{proxy_note(self.address)}"
                    ) from error
                if isinstance(error, InferenceServerException) and status not in _AWAY:
                    if reminded or self._regions is None or not _forgotten(error):
                        raise
                    # A server that was started again knows none of our shared memory: it is told anew.
                    reminded = True
                    self._regions.forget()
                    continue
                if attempt >= connection.retries:
                    raise ServerError(
                        f"{self.address.text}: away or too busy, asked {attempt + 1} times ({_reason(error)}); "
                        f"check that the server runs and that its queue is not full{proxy_note(self.address)}"
                    ) from error
            # Half of the wait is chance: clients that were refused together do not come back together.
            time.sleep(connection.backoff_s * 2 ** min(attempt, _MOST_DOUBLINGS) * random.uniform(0.5, 1.0))
        raise AssertionError("the loop ends by itself")


def _are_tensors(values: object) -> bool:
    """Whether a part of a configuration lists inputs or outputs."""
    return isinstance(values, list) and all(
        isinstance(tensor, dict) and {"name", "data_type", "dims"} <= set(tensor) for tensor in values
    )


def _forgotten(error: InferenceServerException) -> bool:
    return "Unable to find shared memory region" in str(error)


def _reason(error: Exception) -> str:
    return str(error.message()) if isinstance(error, InferenceServerException) else str(error) or type(error).__name__
