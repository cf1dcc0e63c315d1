"""Requests to one model on a Triton server: time limits, retries, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from ...connection import Address, Connection
from ...errors import ModelError, ServerError
from ...system.fork import PerProcess
from .proxy import proxy_note
from .retries import GREETING_S, retried
from .session import ServerSession, Tensors, session_after_fork
from .transport import Transport, open_transport


class TritonClient:
    """One model on one server. `infer` may be called from many threads at once, and in forked children.

    Attributes:
        address: of the model.
        config: of the model, as the server gave it.
    """

    def __init__(self, address: Address, connection: Connection) -> None:
        """
        Raises:
            ServerError: the server cannot be reached. ModelError: it does not have the model.
        """
        self.address = address
        self._connection = connection
        transport = open_transport(address, connection)
        try:
            self.config = _read_config(transport, address, connection)
            session = ServerSession(transport, address, connection)
        except BaseException:
            transport.close()
            raise
        reopen = partial(session_after_fork, address, connection)
        self._session: PerProcess[ServerSession] = PerProcess(session, reopen, ServerSession.abandon)

    @property
    def in_flight(self) -> int:
        """How many requests are under way at once."""
        return self._connection.in_flight

    def infer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Outputs of one request.

        Raises:
            InferenceServerException: the server refuses the request or fails.
            ServerError: it is away or busy, and stays so, or takes too long.
            ModelError: the connection is closed.
        """
        return retried(
            lambda: self._opened().infer(inputs, outputs), self.address, self._connection, self._connection.timeout_s
        )

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
        return list(self._opened().executor.map(infer_one, requests))

    def close(self) -> None:
        """Close the connections; twice is as good as once."""
        session = self._session.take()
        if session is not None:
            session.close()

    def _opened(self) -> ServerSession:
        session = self._session.get()
        if session is None:
            raise ModelError(f"{self.address.text}: the connection is closed; open the model again")
        return session


def _read_config(transport: Transport, address: Address, connection: Connection) -> dict[str, Any]:
    try:
        config = retried(transport.config, address, connection, GREETING_S)
    except InferenceServerException as error:
        if "is not found" in str(error) or "unknown model" in str(error):
            raise ModelError(
                f"{address.text}: the server has no such model ready ({error.message()}); "
                "check its name and version, and the server's log"
            ) from error
        raise ServerError(f"{address.text}: {error}; is it a Triton server?{proxy_note(address)}") from error
    if not all(_are_tensors(config.get(kind)) for kind in ("input", "output")):
        raise ServerError(
            f"{address.text}: what should be the model's configuration names no inputs and outputs (it has "
            f"{', '.join(map(str, config)) or 'nothing':.100}); is it a Triton server that answers?"
        )
    return config


def _are_tensors(values: object) -> bool:
    """Whether a part of a configuration lists inputs or outputs."""
    return isinstance(values, list) and all(
        isinstance(tensor, dict) and {"name", "data_type", "dims"} <= set(tensor) for tensor in values
    )
