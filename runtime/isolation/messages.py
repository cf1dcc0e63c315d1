"""Messages between two processes over a pipe: a header in JSON, then bytes."""

from __future__ import annotations

import json
import selectors
from collections.abc import Callable
from time import monotonic
from typing import Any

_LENGTH_BYTES = 8
_LARGEST_HEADER = 1 << 20
_LOOK_EVERY_S = 0.005


def write_message(stream: Any, header: dict[str, Any], content: bytes | memoryview = b"") -> None:
    """Write all of it to a pipe without a buffer.

    Raises:
        OSError: the pipe has ended.

    Example:
        >>> import io
        >>> pipe = io.BytesIO()
        >>> write_message(pipe, {"bytes": 2}, b"ab")
        >>> pipe.getvalue()[8:]
        b'{"bytes": 2}ab'
    """
    text = json.dumps(header).encode()
    for part in (len(text).to_bytes(_LENGTH_BYTES, "big") + text, content):
        rest = memoryview(part)
        while rest:
            rest = rest[stream.write(rest) :]


def read_header(stream: Any, deadline: float | None = None, look: Callable[[], None] | None = None) -> dict[str, Any]:
    """The next header.

    Args:
        stream: a pipe without a buffer.
        deadline: by `time.monotonic`; None: wait for ever.
        look: called every few milliseconds while the header is waited for; what it raises ends the wait.

    Raises:
        TimeoutError, BrokenPipeError: see `read_bytes`.
        ValueError: something else stands there.

    Example:
        >>> read_header(process.stdout, monotonic() + 5)  # doctest: +SKIP
        {'hw': [400, 600]}
    """
    length = int.from_bytes(read_bytes(stream, _LENGTH_BYTES, deadline, look), "big")
    if length > _LARGEST_HEADER:
        raise ValueError("no header")
    header: dict[str, Any] = json.loads(read_bytes(stream, length, deadline))
    return header


def read_bytes(
    stream: Any, size: int, deadline: float | None = None, look: Callable[[], None] | None = None
) -> bytearray:
    """Exactly so many bytes of a pipe without a buffer.

    Args:
        stream, deadline, look: see `read_header`.
        size: number of bytes.

    Raises:
        TimeoutError: they are not there in time.
        BrokenPipeError: the stream has ended.

    Example:
        >>> pixels = read_bytes(process.stdout, 400 * 600 * 3, monotonic() + 5)  # doctest: +SKIP
    """
    content = bytearray(size)
    rest = memoryview(content)
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while rest:
            while look is not None and not selector.select(_LOOK_EVERY_S):
                look()
                if deadline is not None and monotonic() > deadline:
                    break
            if deadline is not None and not selector.select(max(0.0, deadline - monotonic())):
                raise TimeoutError
            count = stream.readinto(rest)
            if not count:
                raise BrokenPipeError("the stream has ended")
            rest = rest[count:]
    return content
