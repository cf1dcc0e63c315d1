"""The address that a server listens on."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from ..errors import ParameterError


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address, on which nobody listens yet.

    Args:
        host: name or IP address.
        port: 0: a free one.

    Raises:
        ParameterError: the address cannot be had.

    Example:
        >>> with bound("127.0.0.1", 0) as listener:
        ...     address_of(listener).rpartition(":")[0]
        'http://127.0.0.1'
    """
    try:
        family, address = _family_and_address(host, port)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ParameterError(
            f"cannot listen on {host} port {port} ({reason}); choose another --port or --host"
        ) from error
    return listener


def _family_and_address(host: str, port: int) -> tuple[int, tuple[object, ...]]:
    """Without a look-up where the host is a number."""
    try:
        family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
    except ValueError:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return found[0], found[4]
    return family, (host, port)


def address_of(listener: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
