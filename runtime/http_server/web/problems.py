"""Errors as JSON: "problem details" of RFC 9457. A traceback is for the log and never for a client."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi.responses import JSONResponse

from ...errors import FastSamError, ImageError, ParameterError, PromptError, ServerError
from ..refusals import BodyTooLargeError, BusyError, LateError, MediaTypeError, UnknownImageError

MEDIA_TYPE = "application/problem+json"
_LONGEST_DETAIL = 1000  # characters; a message may quote what the client sent
_log = logging.getLogger(__name__)

_STATUSES = (
    (BodyTooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (MediaTypeError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (UnknownImageError, HTTPStatus.NOT_FOUND),
    ((ImageError, ParameterError, PromptError), HTTPStatus.BAD_REQUEST),
    (ServerError, HTTPStatus.SERVICE_UNAVAILABLE),
)
"""The first that fits counts; every other error is 500."""


def problem(status: int, kind: str, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer that says what is wrong.

    Args:
        status: of HTTP.
        kind: name of the error's class, for clients that act on it.
        detail: what is wrong, what was found, what was expected and what to do.
        headers: further ones.

    Example:
        >>> problem(404, "NotFound", "no such path").body
        b'{"type":"about:blank","title":"Not Found","status":404,"kind":"NotFound","detail":"no such path"}'
    """
    title = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "kind": kind, "detail": _printable(detail)}
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def problem_of(error: Exception) -> JSONResponse:
    """The answer to a request that failed.

    Example:
        >>> problem_of(BusyError("128 requests wait", 2)).headers["retry-after"]
        '2'
    """
    if not isinstance(error, FastSamError):
        _log.error("a request failed", exc_info=error)
        return problem(500, "InternalError", "bug in the server; its log has the traceback; please report it")
    status = next((status for kinds, status in _STATUSES if isinstance(error, kinds)), HTTPStatus.INTERNAL_SERVER_ERROR)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, BusyError | LateError):
        _log.warning("a request failed: %s", error)
    headers = {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(error.retry_after_s if isinstance(error, BusyError) else 1)
    return problem(status, type(error).__name__, str(error), headers)


def _printable(text: str) -> str:
    """A text that UTF-8 can hold, and not too long."""
    return text[:_LONGEST_DETAIL].encode("utf-8", "backslashreplace").decode()
