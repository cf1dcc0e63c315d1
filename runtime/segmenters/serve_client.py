"""Requests to a `fastsam serve`: each over a connection of its own, so that threads and forks need no care."""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import count
from typing import Any

from ..connection import Connection, ServeAddress
from ..documents import parse
from ..errors import FastSamError, ImageError, ServerError
from ..wire.answer import error_from_text

_GREETING_S = 5.0
_BUSY, _TOO_LARGE, _OK = 503, 413, 200
_MOST_DOUBLINGS = 20
_LONGEST_PAUSE_S = 60.0
_MOST_BYTES = 1 << 30
_BLOCK = 1 << 18
_LONGEST_MESSAGE = 300


class ServeClient:
    """Sends requests, again while the server is busy or away. Safe to use from many threads at once.

    Example:
        >>> client = ServeClient(ServeAddress.from_text("http+fastsam://localhost:8080"), Connection())
        >>> client.describe()["imgsz"]  # doctest: +SKIP
        1024
    """

    def __init__(self, address: ServeAddress, connection: Connection) -> None:
        """
        Args:
            address: of the server.
            connection: time limits, retries, headers, TLS.

        Raises:
            ServerError: a PEM file cannot be read.
        """
        self.address, self.connection = address, connection
        try:
            self._context = connection.tls_context() if address.tls else None
        except OSError as error:
            raise ServerError(f"{address.text}: {error}; expected PEM files in the Connection") from error

    def describe(self) -> dict[str, Any]:
        """What the server says of its model.

        Raises:
            ServerError: it is away, or another server answers.
        """
        content = self._retried("GET", "/v1/model", None, {}, min(_GREETING_S, self.connection.timeout_s))
        try:
            document = parse(content)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ServerError(
                f"{self.address.text}: /v1/model is answered with {content[:60]!r}, expected a JSON object; is it a "
                "fastsam serve that answers? check host, port and path"
            )
        return document

    def segment(self, image: bytes, fields: Mapping[str, Any]) -> bytes:
        """The answer to a form with an image.

        Args:
            image: content of a file.
            fields: the others; texts as they are, all else as JSON.

        Raises:
            ImageError, ParameterError, PromptError: the server refuses the request.
            ServerError: it is away or busy, and stays so, or takes too long.
        """
        boundary = secrets.token_hex(16)
        parts = [_part("image", image, '; filename="image"')]
        for name, value in fields.items():
            text = value if isinstance(value, str) else json.dumps(value)
            parts.append(_part(name, text.encode()))
        between = f"--{boundary}\r\n".encode()
        body = b"".join(between + part for part in parts) + f"--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self._retried("POST", "/v1/segment", body, headers, self.connection.timeout_s)

    def _retried(self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout_s: float) -> bytes:
        where = self.address.text
        for attempt in count():
            try:
                status, content, wait_s = self._sent(method, path, body, headers, timeout_s)
            except TimeoutError as error:
                raise ServerError(
                    f"{where}: no answer within {timeout_s:g} s; is the server too busy? give a longer timeout_s"
                ) from error
            except (OSError, HTTPException) as error:
                reason, wait_s = str(error) or type(error).__name__, 0.0
            else:
                if status == _OK:
                    return content
                error_of_answer = _error_of(where, status, content)
                if status != _BUSY:
                    raise error_of_answer
                reason = str(error_of_answer)
            if attempt >= self.connection.retries:
                raise ServerError(
                    f"{where}: away or too busy, asked {attempt + 1} times ({reason}); check that the server runs and "
                    "that its queue is not full"
                )
            # Half of the wait is chance: clients that were refused together do not come back together.
            pause_s = self.connection.backoff_s * 2 ** min(attempt, _MOST_DOUBLINGS) * random.uniform(0.5, 1.0)
            time.sleep(max(pause_s, wait_s * random.uniform(0.5, 1.0)) if self.connection.backoff_s else 0.0)
        raise AssertionError("the loop ends by itself")

    def _sent(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout_s: float
    ) -> tuple[int, bytes, float]:
        """Status, content, and the seconds of Retry-After."""
        end = time.monotonic() + timeout_s
        host = self.address.host
        plain = self._context is None
        with closing(
            HTTPConnection(host, timeout=timeout_s)
            if plain
            else HTTPSConnection(host, timeout=timeout_s, context=self._context)
        ) as connection:
            connection.request(method, self.address.prefix + path, body, {**self.connection.headers, **headers})
            answer = connection.getresponse()
            content = bytearray()
            while block := answer.read1(_BLOCK):
                content += block
                if time.monotonic() > end:
                    raise TimeoutError("the answer does not end")
                if len(content) > _MOST_BYTES:
                    raise ServerError(f"{self.address.text}: the answer has more than {_MOST_BYTES:,} bytes")
            if answer.length:
                raise ConnectionError("the answer was cut short")
            pause = answer.getheader("Retry-After", "")
            return answer.status, bytes(content), min(float(pause), _LONGEST_PAUSE_S) if pause.isdecimal() else 0.0


def _part(name: str, content: bytes, more: str = "") -> bytes:
    return f'Content-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def _error_of(where: str, status: int, content: bytes) -> FastSamError:
    """What a server says is wrong; what stands before it (a proxy) may say it in another way."""
    try:
        document = parse(content, 1 << 16)
        kind, detail = str(document["kind"]), str(document["detail"])
    except (ValueError, KeyError, TypeError):
        text = content[:_LONGEST_MESSAGE].decode("utf-8", "replace") or "an empty answer"
        return ServerError(f"{where}: status {status}: {text}")
    if status == _TOO_LARGE:
        return ImageError(detail)
    return error_from_text(f"{kind}: {detail}") or ServerError(f"{where}: {kind}: {detail}")
