"""Address and manners of a connection to an inference server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path

from .errors import ParameterError

_ADDRESS = re.compile(
    r"(?P<scheme>grpcs?|https?)://"
    r"(?:dns://(?P<resolver>[\w.:\[\]-]*)/)?"
    r"(?P<name>\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(?P<port>\d+))?"
    r"(?P<prefix>(?:/[\w.~%-]+)*?)/(?P<model>[\w.-]+)(?:/(?P<version>\d+))?/?"
)
_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443}
_HIGHEST_PORT = 65_535
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[::1\]")
_LONGEST_WAIT_S = 86_400


@dataclass(frozen=True)
class Connection:
    """How to talk to an inference server.

    Attributes:
        timeout_s: longest wait for one answer, up to a day; the server drops the request, too, when it waited so long.
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
        if not 0 < self.timeout_s <= _LONGEST_WAIT_S or not 0 <= self.backoff_s <= _LONGEST_WAIT_S:
            raise ParameterError(
                f"timeout_s is {self.timeout_s}, backoff_s {self.backoff_s}; expected seconds: a timeout above 0, a "
                f"backoff of 0 or more, neither above {_LONGEST_WAIT_S} (a day)"
            )
        for name, value, least in (("retries", self.retries, 0), ("in_flight", self.in_flight, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ParameterError(f"{name} is {value!r}, expected a whole number of {least} or more")
        for header, text in self.headers.items():
            if not isinstance(text, str) or re.search(r"[\r\n\0]", header + text):
                # The value may be a secret: it is not shown.
                raise ParameterError(f"header {header!r}: expected a name and a value that are text of one line")


@dataclass(frozen=True)
class Address:
    """A model on a server.

    - `grpc://HOST:8001/MODEL`, `http://HOST:8000/MODEL`: with these ports where none is given;
    - `grpcs://HOST:8001/MODEL`, `https://HOST/MODEL`: with TLS, and port 443 for https;
    - `…/MODEL/3`: that version of the model;
    - `https://HOST/gateway/triton/MODEL`: behind a path of a gateway (HTTP only, gRPC has none);
    - `grpc://dns:///HOST:8001/MODEL`, `grpc://dns://RESOLVER/HOST:8001/MODEL`: as gRPC spells names.

    A name may stand for many servers, such as a headless Service of Kubernetes: gRPC spreads its requests over them.

    >>> Address.from_text("https://example.org/vision/fastsam/2").version
    '2'

    Attributes:
        text: as it was given.
        transport: "grpc" or "http".
        host: name or number with the port.
        model: name of the model.
        version: of the model, "" for the server's choice.
        tls: whether the connection is encrypted.
        on_this_host: whether the name can only mean this host.
        prefix: path in front of Triton's own, such as "/vision", or "".
        resolver: DNS server, "" for the system's; gRPC only.
    """

    text: str
    transport: str
    host: str
    model: str
    version: str
    tls: bool
    on_this_host: bool
    prefix: str = ""
    resolver: str = ""

    @property
    def target(self) -> str:
        """The server as gRPC names it."""
        return self.host if self.on_this_host or self.host.startswith("[") else f"dns://{self.resolver}/{self.host}"

    @classmethod
    def from_text(cls, text: str) -> Address:
        """Read an address.

        Raises:
            ParameterError: it is none.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None:
            secret = "//" in text and "@" in text
            shown = re.sub(r"//.*@", "//…@", text)
            raise ParameterError(
                f"{shown!r} is no address of a model; expected grpc://HOST:8001/MODEL or http://HOST:8000/MODEL "
                "(grpcs, https for TLS), for example grpc://localhost:8001/fastsam"
                + ("; credentials go into Connection(headers={'authorization': …})" if secret else "")
            )
        scheme, name = match["scheme"], match["name"]
        transport = scheme.removesuffix("s")
        if transport == "grpc" and match["prefix"]:
            raise ParameterError(
                f"{text}: gRPC has no paths, found {match['prefix']!r} in front of the model {match['model']!r}; "
                "give grpc://HOST:PORT/MODEL, or http:// for a gateway with paths"
            )
        if transport == "http" and match["resolver"] is not None:
            raise ParameterError(f"{text}: dns:// is gRPC's; give {scheme}://HOST/MODEL")
        host = f"{name}:{_port(match['port'], scheme, text)}"
        _check_name(name, text)
        local = bool(_LOOPBACK.fullmatch(name))
        return cls(
            text, transport, host, match["model"], match["version"] or "", scheme.endswith("s"), local,
            match["prefix"], match["resolver"] or "",
        )  # fmt: skip


def _port(digits: str | None, scheme: str, text: str) -> int:
    port = _PORTS[scheme] if digits is None else int(digits[:9])
    if not 1 <= port <= _HIGHEST_PORT:
        raise ParameterError(f"{text}: port {digits}, expected 1 to {_HIGHEST_PORT}")
    return port


def _check_name(name: str, text: str) -> None:
    """ParameterError for a name that no resolver takes: an empty label, one of more than 63 letters, a bad IPv6."""
    try:
        if name.startswith("["):
            IPv6Address(name[1:-1])
        else:
            name.encode("idna")
    except ValueError as error:
        raise ParameterError(f"{text}: {name!r:.80} is no host ({error}); give its name or its number") from error


def is_address(model: object) -> bool:
    """Whether a model is named by an address, not by a file."""
    return isinstance(model, str) and re.match(r"(grpcs?|https?)://", model) is not None
