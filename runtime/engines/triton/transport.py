"""The two ways to a Triton server, gRPC and HTTP, with the same methods. Both serve many threads at once.

Failures are `InferenceServerException`, whose `status()` is gRPC's code or HTTP's number, or `OSError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ...connection import Address, Connection
from ...errors import ParameterError
from .over_grpc import GrpcTransport
from .over_http import HttpTransport


class Transport(Protocol):
    """What `TritonClient` needs of a way to a server."""

    library: Any
    """Has `InferInput`, and `InferRequestedOutput`."""

    def config(self) -> dict[str, Any]:
        """The model's configuration."""
        ...

    def extensions(self) -> list[str]:
        """Names of what the server can do."""
        ...

    def register(self, name: str, key: str, size: int) -> None:
        """Tell it of a piece of this host's shared memory."""
        ...

    def unregister(self, name: str) -> None:
        """The contrary."""
        ...

    def registered(self) -> list[str]:
        """Names of the regions of shared memory that it knows, of all its clients."""
        ...

    def infer(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """Run the model; the answer has `as_numpy(name)`."""
        ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """In a forked child: let go of the parent's connections without a word to the server."""
        ...


def open_transport(address: Address, connection: Connection) -> Transport:
    """The one that the address names; nothing is sent yet.

    Raises:
        ParameterError: the connection's certificates cannot be read.
    """
    try:
        return GrpcTransport(address, connection) if address.transport == "grpc" else HttpTransport(address, connection)
    except OSError as error:  # those of ssl too
        raise ParameterError(
            f"{address.text}: a certificate or key of the connection cannot be read ({error}); expected PEM files"
        ) from error
