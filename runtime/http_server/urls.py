"""Images that a request names by URL. Off unless the operator names the hosts.

A server that fetches what strangers name can be made to look around in its own network. So hosts are those of a list,
their addresses are public, the address that was checked is the one that is connected to, and redirections are refused.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from ..errors import FastSamError, ImageError, ParameterError
from .admission import Deadline

_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 2048
_BLOCK = 1 << 16
_OK = 200
_WRAPPING = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
"""IPv6 addresses that stand for IPv4 addresses: NAT64, 6to4, Teredo."""


@dataclass(frozen=True)
class Origin:
    """Where images may come from.

    Attributes:
        scheme: "https" or "http".
        host: its name, in lower case.
        port: of the server.

    Example:
        >>> Origin.from_text("https://images.example.org")
        Origin(scheme='https', host='images.example.org', port=443)
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def from_text(cls, text: str) -> Origin:
        """Parse an origin: a scheme and a host, and nothing behind them.

        Raises:
            ParameterError: it is something else.
        """
        parts = _split(text)
        origin = None if parts is None or parts.path.strip("/") or parts.query or parts.fragment else _origin_of(parts)
        if origin is None:
            raise ParameterError(f"{text!r:.80} is no origin of images; expected https://HOST, or http://HOST:PORT")
        return origin


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network, and stands for no other address.

    Example:
        >>> [is_public(text) for text in ("93.184.216.34", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")]
        [True, False, False, False]
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if any(parsed in network for network in _WRAPPING):
            return False
    return parsed.is_global and not parsed.is_multicast


class ImageFetcher:
    """Fetches images from hosts of a list.

    Example:
        >>> fetcher = ImageFetcher([Origin.from_text("https://images.example.org")], most_bytes=64_000_000)
        >>> fetcher.fetch("https://images.example.org/cat.jpg", Deadline(10))[:3]  # doctest: +SKIP
        b'\\xff\\xd8\\xff'
    """

    def __init__(
        self,
        origins: Sequence[Origin],
        *,
        most_bytes: int,
        seconds: float = 10.0,
        allows: Callable[[str], bool] = is_public,
    ) -> None:
        """
        Args:
            origins: from which images are fetched; none: every URL is refused.
            most_bytes: of an image.
            seconds: that one image may take.
            allows: whether an IP address may be connected to.
        """
        self._origins, self._allows = frozenset(origins), allows
        self._most_bytes, self._seconds = most_bytes, seconds

    def fetch(self, url: str, deadline: Deadline) -> bytes:
        """The content of a URL.

        Raises:
            ParameterError: it is not of an origin of the list.
            ImageError: it cannot be fetched, is elsewhere, or is too large.
            LateError: the request has no time left.
        """
        origin, path = self.checked(url)
        within = Deadline(min(self._seconds, deadline.left_s()))
        try:
            with closing(self._connected(origin, within)) as connection:
                connection.request("GET", path, headers={"Accept": "image/*", "Accept-Encoding": "identity"})
                return self._content(connection.getresponse(), url, within)
        except FastSamError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ImageError(f"url {url:.200}: cannot be fetched ({error}); send the image itself") from error

    def checked(self, url: str) -> tuple[Origin, str]:
        """The origin of a URL, and its path with what follows. Nothing is looked up.

        Raises:
            ParameterError: it is not of an origin of the list.
        """
        parts = _split(url)
        origin = None if parts is None else _origin_of(parts)
        if parts is None or origin is None or origin not in self._origins:
            known = ", ".join(sorted(f"{origin.scheme}://{origin.host}" for origin in self._origins))
            expected = f"expected one of {known}" if known else "this server fetches no images"
            raise ParameterError(f"url is {url!r:.80}; {expected}; send the image itself")
        return origin, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _connected(self, origin: Origin, within: Deadline) -> http.client.HTTPConnection:
        """A connection to an address that was checked: a name may have another one a moment later."""
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses or not all(map(self._allows, addresses)):
            raise ParameterError(f"url: {origin.host} has an address that is not public; send the image itself")
        plain = socket.create_connection((addresses[0], origin.port), within.left_s())
        connection = http.client.HTTPConnection(origin.host, origin.port)
        try:
            secure = origin.scheme == "https"
            connection.sock = _context().wrap_socket(plain, server_hostname=origin.host) if secure else plain
        except BaseException:
            plain.close()
            raise
        return connection

    def _content(self, answer: http.client.HTTPResponse, url: str, within: Deadline) -> bytes:
        if answer.status != _OK:
            raise ImageError(
                f"url {url:.200}: the answer is {answer.status}, expected {_OK} (redirections are not followed); send "
                "the image itself"
            )
        content = bytearray()
        while block := answer.read1(_BLOCK):
            within.left_s()
            content += block
            if len(content) > self._most_bytes:
                raise ImageError(f"url {url:.200}: more than {self._most_bytes:,} bytes; make the image smaller")
        return bytes(content)


def _context() -> ssl.SSLContext:
    return ssl.create_default_context()


def _split(text: str) -> SplitResult | None:
    if len(text) > _LONGEST_URL or not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return None
    try:
        return urlsplit(text)
    except ValueError:
        return None


def _origin_of(parts: SplitResult) -> Origin | None:
    """The origin of a URL; None if it has none of ours, or credentials."""
    try:
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or port == 0:
        return None
    return Origin(parts.scheme, parts.hostname.lower(), port or _PORTS[parts.scheme])
