"""The way to a Triton server over HTTP."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from time import monotonic
from typing import Any
from urllib.parse import quote
from weakref import WeakSet

from tritonclient.utils import InferenceServerException

from ...connection import Address, Connection
from ...documents import parse
from ...errors import ServerError
from .retries import GREETING_S

_LONGEST_GREETING_BYTES = 1 << 24
_LONGEST_ANSWER_BYTES = (1 << 31) - 1
"""Of an answer with tensors; the longest message that gRPC takes."""

_READ_BYTES = 1 << 18


class HttpTransport:
    """A `Transport` on http.client, over one connection for each thread.

    tritonclient makes and reads the messages; its own HTTP client is for one thread only.
    """

    def __init__(self, address: Address, connection: Connection) -> None:
        from tritonclient import http

        self.library = http
        self._address, self._connection = address, connection
        self._context = connection.tls_context() if address.tls else None
        version = f"/versions/{address.version}" if address.version else ""
        self._server = f"{quote(address.prefix, safe='/%~')}/v2"
        self._model = f"{self._server}/models/{quote(address.model)}{version}"
        self._threads = threading.local()
        # A thread that ends takes its connection along: streams have new threads each time.
        self._open: WeakSet[HTTPConnection] = WeakSet()
        self._lock = threading.Lock()

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self._json("GET", f"{self._model}/config")
        return config

    def extensions(self) -> list[str]:
        return list(self._json("GET", self._server).get("extensions", ()))

    def register(self, name: str, key: str, size: int) -> None:
        self._json(
            "POST",
            f"{self._server}/systemsharedmemory/region/{name}/register",
            {"key": key, "offset": 0, "byte_size": size},
        )

    def unregister(self, name: str) -> None:
        self._json("POST", f"{self._server}/systemsharedmemory/region/{name}/unregister", {})

    def registered(self) -> list[str]:
        regions = self._json("GET", f"{self._server}/systemsharedmemory/status", kind=list)
        return [str(region["name"]) for region in regions if isinstance(region, dict) and "name" in region]

    def infer(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        client = self.library.InferenceServerClient
        timeout_s = self._connection.timeout_s
        body, json_size = client.generate_request_body(
            list(inputs), outputs=list(outputs), timeout=int(timeout_s * 1e6)
        )
        headers = {} if json_size is None else {"Inference-Header-Content-Length": str(json_size)}
        content, head = self._exchange("POST", f"{self._model}/infer", body, headers, timeout_s, _LONGEST_ANSWER_BYTES)
        size = head.get("inference-header-content-length")
        return client.parse_response_body(content, header_length=None if size is None else int(size))

    def close(self) -> None:
        with self._lock:
            connections = list(self._open)
            self._open.clear()
        for connection in connections:
            connection.close()

    def abandon(self) -> None:
        for connection in list(self._open):
            if connection.sock is not None:
                os.close(connection.sock.detach())  # closing would wait for a lock that another thread may hold

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None, kind: type = dict) -> Any:
        text = None if body is None else json.dumps(body).encode()
        content, _ = self._exchange(method, path, text, {}, GREETING_S, _LONGEST_GREETING_BYTES)
        try:
            answer = parse(content or b"{}")
        except ValueError:
            answer = None
        if not isinstance(answer, kind):
            what = "a JSON object" if kind is dict else "a JSON array"
            raise ServerError(
                f"{self._address.text}: {path} is answered with {content[:60]!r}, expected {what}; "
                "does a proxy or another server answer in Triton's place? check host, port and path"
            )
        return answer

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout_s: float, most: int
    ) -> tuple[bytes, dict[str, str]]:
        """Content and headers (lower case) of the answer.

        Raises:
            InferenceServerException: the status is not 200. OSError: the server is away.
            ServerError: the content has more than `most` bytes.
        """
        connection = self._own_connection()
        used = connection.sock is not None
        try:
            return self._send(connection, method, path, body, headers, timeout_s, most)
        except (ConnectionError, HTTPException) as error:
            connection.close()
            # A connection that was kept open may have been closed by the other side: that is no failure yet.
            if used:
                return self._send(connection, method, path, body, headers, timeout_s, most)
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        except (OSError, ServerError):
            connection.close()
            raise

    def _send(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout_s: float,
        most: int,
    ) -> tuple[bytes, dict[str, str]]:
        end = monotonic() + timeout_s
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        connection.request(method, path, body, {**self._connection.headers, **headers})
        answer = connection.getresponse()
        content = self._content(answer, most, end)
        if answer.status != 200:
            raise InferenceServerException(msg=_message(content), status=str(answer.status))
        return content, {name.lower(): value for name, value in answer.getheaders()}

    def _content(self, answer: HTTPResponse, most: int, end: float) -> bytes:
        """All of it, if it ends in time: the socket's own limit starts anew with each piece."""
        parts: list[bytes] = []
        size = 0
        while max(size, answer.length or 0) <= most:
            parts.append(answer.read1(_READ_BYTES))
            size += len(parts[-1])
            if not parts[-1]:
                missing = answer.length
                answer.read()  # nothing; it frees the connection for the next request
                if missing:
                    raise IncompleteRead(b"", missing)
                return b"".join(parts)
            if monotonic() > end:
                raise TimeoutError("the answer does not end")
        raise ServerError(
            f"{self._address.text}: the answer has more than {most:,} bytes; is it a Triton server that answers?"
        )

    def _own_connection(self) -> HTTPConnection:
        connection: HTTPConnection | None = getattr(self._threads, "connection", None)
        if connection is None:
            host = self._address.host
            connection = HTTPConnection(host) if self._context is None else HTTPSConnection(host, context=self._context)
            self._threads.connection = connection
            with self._lock:
                self._open.add(connection)
        return connection


def _message(content: bytes) -> str:
    """Triton says what is wrong as {"error": …}; what stands before it (a proxy) may say it in another way."""
    try:
        return str(parse(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content[:300].decode("utf-8", "replace") or "an empty answer"
