"""Requests that a server refuses for reasons of its own."""

from __future__ import annotations

from ..errors import ParameterError, ServerError


class BusyError(ServerError):
    """The queue is full.

    Attributes:
        retry_after_s: when another attempt makes sense, whole seconds.

    Example:
        >>> BusyError("128 requests wait").retry_after_s
        1
    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class LateError(ServerError):
    """A request was not answered in its time, or its client has gone.

    Example:
        >>> raise LateError("no answer within 60 s")  # doctest: +SKIP
    """


class UnknownImageError(ParameterError):
    """No segments are kept under an id, or not any more.

    Example:
        >>> raise UnknownImageError("no image 'abc' is kept")  # doctest: +SKIP
    """


class BodyTooLargeError(ParameterError):
    """The body of a request has more bytes than the server takes.

    Example:
        >>> raise BodyTooLargeError("the body has 90,000,000 bytes")  # doctest: +SKIP
    """


class MediaTypeError(ParameterError):
    """The body of a request is neither JSON nor a form.

    Example:
        >>> raise MediaTypeError("the body is text/plain")  # doctest: +SKIP
    """
