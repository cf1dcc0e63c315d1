"""What stands before the page: a limit on requests, and a policy that keeps the browser on this server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_ACTION_BYTES = 1_000_000
"""Of a request that is no upload."""

_FORM_BYTES = 10_000  # around the file of an upload

HEADERS = {
    # Gradio's page makes functions of texts and has styles in its elements.
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors *",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Of every answer. The browser loads nothing from another host, whatever a page says."""


class Guard:
    """ASGI middleware: refuses what is too large before it is read, and adds `HEADERS`.

    Example:
        >>> guard = Guard(handler, max_bytes=50_000_000)  # doctest: +SKIP
    """

    def __init__(self, handler: Handler, *, max_bytes: int) -> None:
        """
        Args:
            handler: the application behind it.
            max_bytes: limit of an uploaded file.
        """
        self._handler, self._max_bytes = handler, max_bytes

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] != "http":
            await self._handler(scope, receive, send)
            return
        is_upload = scope["path"].rstrip("/").endswith("/upload")
        limit = self._max_bytes + _FORM_BYTES if is_upload else MAX_ACTION_BYTES
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise ValueError(f"a request of more than {limit:,} bytes, whose length was not said")
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_ENCODED]
            await send(message)

        if _length(scope) > limit:
            await _refuse(with_headers, limit)
        else:
            await self._handler(scope, counted, with_headers)


_ENCODED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def _length(scope: Message) -> int:
    said = dict(scope["headers"]).get(b"content-length", b"0")
    return int(said) if said.isdigit() else 0


async def _refuse(send: Send, limit: int) -> None:
    body = f'{{"detail": "larger than {limit:,} bytes; make the file smaller"}}'.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
