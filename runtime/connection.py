"""Connections to an inference server: the address of a model, and how requests are sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ParameterError

if TYPE_CHECKING:
    from ssl import SSLContext

_ADDRESS = re.compile(
    r"(?P<scheme>grpcs?|https?)://"
    r"(?:dns://(?P<resolver>[\w.:\[\]-]*)/)?"
    r"(?P<name>\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(?P<port>\d+))?"
    r"(?P<prefix>(?:/[\w.~%-]+)*?)/(?P<model>[\w.-]+)(?:/(?P<version>\d+))?/?"
)
_SERVE_ADDRESS = re.compile(
    r"(?P<scheme>https?\+fastsam)://(?P<name>\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::(?P<port>\d+))?(?P<prefix>(?:/[\w.~%-]+)*)/?"
)
_PORTS = {
    "grpc": 8001, "grpcs": 8001, "http": 8000, "https": 443, "http+fastsam": 8080, "https+fastsam": 443,
}  # fmt: skip
_HIGHEST_PORT = 65_535
_LOOPBACK = re.compile(r"localhost|127\.\d+\.\d+\.\d+|\[::1\]")
_LONGEST_WAIT_S = 86_400


@dataclass(frozen=True)
class Connection:
    """Settings of the connection to an inference server.

    Attributes:
        timeout_s: longest wait for one answer, up to a day. The server, too, drops a request that has waited so long.
        retries: how often a request is sent again. Only a busy or absent server (UNAVAILABLE, 503) causes a retry.
        backoff_s: wait before the first retry. It doubles each time, and varies by half to spread the clients.
        in_flight: number of requests of one `segment_batch` that are sent at once. The server can batch them.
        headers: sent with each request, such as {"authorization": "Bearer …"}.
        shared_memory: pass arrays to the server through shared memory. None: if the server is on this host and
            accepts it; True: always, and an error if that is impossible; False: never.
        root_certificates: PEM file with the authorities that sign the server's certificate (grpcs://, https://);
            None: the defaults.
        private_key, certificate_chain: PEM files with which this client authenticates itself (mutual TLS).

    Raises:
        ParameterError: a setting is out of its range, or a header is not text of one line.

    Example:
        >>> Connection(timeout_s=5, headers={"authorization": "Bearer …"}).retries
        5
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
                # The value may be a secret, so the message does not show it.
                raise ParameterError(f"header {header!r}: expected a name and a value that are text of one line")

    def tls_context(self) -> SSLContext:
        """What an encrypted connection over HTTP checks and shows.

        Raises:
            OSError: a PEM file cannot be read.

        Example:
            >>> Connection().tls_context().check_hostname
            True
        """
        import ssl

        authority = self.root_certificates
        context = ssl.create_default_context(cafile=None if authority is None else str(authority))
        if self.certificate_chain is not None:
            context.load_cert_chain(self.certificate_chain, self.private_key)
        return context


@dataclass(frozen=True)
class Address:
    """A model on a server.

    - `grpc://HOST:8001/MODEL`, `http://HOST:8000/MODEL`: these are the default ports;
    - `grpcs://HOST:8001/MODEL`, `https://HOST/MODEL`: with TLS; the default port of https is 443;
    - `…/MODEL/3`: version 3 of the model;
    - `https://HOST/gateway/triton/MODEL`: behind a path of a gateway (HTTP only, gRPC has no paths);
    - `grpc://dns:///HOST:8001/MODEL`, `grpc://dns://RESOLVER/HOST:8001/MODEL`: names in gRPC's own spelling.

    A name may resolve to many servers, as a headless Service of Kubernetes does: gRPC spreads its requests over them.

    Attributes:
        text: the address as the user wrote it.
        transport: "grpc" or "http".
        host: host name or IP address, with the port.
        model: name of the model.
        version: version of the model; "" leaves the choice to the server.
        tls: whether the connection is encrypted.
        on_this_host: whether the name can only mean this host.
        prefix: path in front of Triton's own, such as "/vision", or "".
        resolver: DNS server, "" for the system's; gRPC only.

    Example:
        >>> address = Address.from_text("https://example.org/vision/fastsam/2")
        >>> address.host, address.prefix, address.model, address.version
        ('example.org:443', '/vision', 'fastsam', '2')
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
        """The server in the spelling of gRPC.

        Example:
            >>> Address.from_text("grpc://example.org/fastsam").target
            'dns:///example.org:8001'
        """
        return self.host if self.on_this_host or self.host.startswith("[") else f"dns://{self.resolver}/{self.host}"

    @classmethod
    def from_text(cls, text: str) -> Address:
        """Parse an address.

        Raises:
            ParameterError: the text is not an address of a model.

        Example:
            >>> Address.from_text("grpc://localhost/fastsam").on_this_host
            True
        """
        match = _ADDRESS.fullmatch(text)
        if match is None:
            secret = "//" in text and "@" in text
            shown = re.sub(r"//.*@", "//…@", text)
            raise ParameterError(
                f"{shown!r:.200} is not the address of a model; expected grpc://HOST:8001/MODEL or "
                "http://HOST:8000/MODEL (grpcs, https for TLS), for example grpc://localhost:8001/fastsam"
                + ("; pass credentials in Connection(headers={'authorization': …})" if secret else "")
            )
        scheme, name = match["scheme"], match["name"]
        transport = scheme.removesuffix("s")
        if transport == "grpc" and match["prefix"]:
            raise ParameterError(
                f"{text:.200}: gRPC has no paths, found {match['prefix']!r:.80} in front of the model "
                f"{match['model']!r:.80}; give grpc://HOST:PORT/MODEL, or http:// for a gateway with paths"
            )
        if transport == "http" and match["resolver"] is not None:
            raise ParameterError(f"{text:.200}: dns:// is gRPC's; give {scheme}://HOST/MODEL")
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
        raise ParameterError(f"{text:.200}: port {digits:.20}, expected 1 to {_HIGHEST_PORT}")
    return port


def _check_name(name: str, text: str) -> None:
    """ParameterError for a name that no resolver accepts: an empty label, one of over 63 letters, an invalid IPv6."""
    try:
        if name.startswith("["):
            IPv6Address(name[1:-1])
        else:
            name.encode("idna")
    except ValueError as error:
        raise ParameterError(
            f"{text:.200}: {name!r:.80} is not a host ({error}); give a host name or an IP address"
        ) from error


@dataclass(frozen=True)
class ServeAddress:
    """A `fastsam serve`: `http+fastsam://HOST:8080`, or `https+fastsam://HOST` behind a proxy with TLS (port 443).

    A proxy may have put it under a path: `https+fastsam://HOST/vision`.

    Attributes:
        text: the address as the user wrote it.
        host: host name or IP address, with the port.
        tls: whether the connection is encrypted.
        prefix: path in front of the server's own, such as "/vision", or "".

    Example:
        >>> address = ServeAddress.from_text("https+fastsam://example.org/vision")
        >>> address.host, address.prefix, address.tls
        ('example.org:443', '/vision', True)
    """

    text: str
    host: str
    tls: bool
    prefix: str

    @classmethod
    def from_text(cls, text: str) -> ServeAddress:
        """Parse an address.

        Raises:
            ParameterError: the text is not the address of a server.

        Example:
            >>> ServeAddress.from_text("http+fastsam://localhost").host
            'localhost:8080'
        """
        match = _SERVE_ADDRESS.fullmatch(text)
        if match is None:
            shown = re.sub(r"//.*@", "//…@", text)
            raise ParameterError(
                f"{shown!r:.200} is not the address of a fastsam serve; expected http+fastsam://HOST:8080, or "
                "https+fastsam://HOST for TLS; credentials go into Connection(headers={'authorization': …})"
            )
        name, scheme = match["name"], match["scheme"]
        _check_name(name, text)
        return cls(text, f"{name}:{_port(match['port'], scheme, text)}", scheme.startswith("https"), match["prefix"])


def is_address(model: object) -> bool:
    """Whether a model is given by an address, not by a file.

    Example:
        >>> is_address("grpc://localhost:8001/fastsam"), is_address("FastSAM-s.onnx")
        (True, False)
    """
    return isinstance(model, str) and re.match(r"(grpcs?|https?(\+fastsam)?)://", model) is not None


def is_serve_address(model: object) -> bool:
    """Whether a model is given by the address of a `fastsam serve`.

    Example:
        >>> is_serve_address("http+fastsam://localhost:8080"), is_serve_address("http://localhost:8000/fastsam")
        (True, False)
    """
    return isinstance(model, str) and re.match(r"https?\+fastsam://", model) is not None
