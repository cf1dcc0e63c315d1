"""Address and manners of a connection to an inference server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ParameterError

_ADDRESS = re.compile(r"(grpcs?|https?)://(\[[0-9a-fA-F:.]+\]|[^/:\s]+)(?::(\d+))?/([\w.-]+)(?:/(\d+))?/?")
_PORTS = {"grpc": 8001, "http": 8000}
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[::1\]")


@dataclass(frozen=True)
class Connection:
    """How to talk to an inference server.

    Attributes:
        timeout_s: longest wait for one answer; the server drops the request, too, when it waited so long.
        retries: how often a request is sent again when the server is busy or away (UNAVAILABLE, 503), and only then.
        backoff_s: wait before the first retry; it doubles each time, and varies by half so that clients spread.
        in_flight: requests of one `segment_batch` that are under way at once; the server makes batches of them.
        headers: sent with each request, such as {"authorization": "Bearer …"}.
        shared_memory: give arrays to the server through this host's shared memory. None: where the address is this
            host's own and the server accepts it; True: always, or there is an error.
        root_certificates: PEM file of who signs the server's certificate (grpcs://, https://); None: the usual ones.
        private_key, certificate_chain: PEM files with which this client shows who it is.
    """

    timeout_s: float = 60.0
    retries: int = 5
    backoff_s: float = 0.1
    in_flight: int = 8
    headers: Mapping[str, str] = field(default_factory=dict)
    shared_memory: bool | None = None
    root_certificates: str | Path | None = None
    private_key: str | Path | None = None
    certificate_chain: str | Path | None = None

    def __post_init__(self) -> None:
        if not self.timeout_s > 0 or self.retries < 0 or self.backoff_s < 0 or self.in_flight < 1:
            raise ParameterError(
                f"timeout_s {self.timeout_s}, retries {self.retries}, backoff_s {self.backoff_s}, in_flight "
                f"{self.in_flight}; expected a timeout above 0, retries and backoff of 0 or more, 1 or more in flight"
            )


@dataclass(frozen=True)
class Address:
    """A model on a server: `grpc://host:8001/model`, `http://…`; grpcs and https with TLS; `/3` for a version.

    Attributes:
        transport: "grpc" or "http".
        host: name or number with the port.
        version: of the model, "" for the server's choice.
    """

    text: str
    transport: str
    host: str
    model: str
    version: str
    tls: bool
    on_this_host: bool

    @classmethod
    def from_text(cls, text: str) -> Address:
        """Read an address.

        Raises:
            ParameterError: it is none.
        """
        found = _ADDRESS.fullmatch(text)
        if not found:
            raise ParameterError(
                f"{text!r} is no address of a model; expected grpc://HOST:8001/MODEL or http://HOST:8000/MODEL "
                "(grpcs, https for TLS), for example grpc://localhost:8001/fastsam"
            )
        scheme, name, port, model, version = found.groups()
        transport = scheme.removesuffix("s")
        host = f"{name}:{port or _PORTS[transport]}"
        local = bool(_LOOPBACK.fullmatch(name))
        return cls(text, transport, host, model, version or "", scheme.endswith("s"), local)


def is_address(model: object) -> bool:
    """Whether a model is named by an address, not by a file."""
    return isinstance(model, str) and re.match(r"(grpcs?|https?)://", model) is not None
