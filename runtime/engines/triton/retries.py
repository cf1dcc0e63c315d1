"""Requests that are sent again while the server is busy or away, and errors that say so in the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from tritonclient.utils import InferenceServerException

from ...connection import Address, Connection
from ...errors import ServerError
from .proxy import proxy_note

Result = TypeVar("Result")

GREETING_S = 5.0
"""Longest wait for an answer about the server itself."""

LATE = ("StatusCode.DEADLINE_EXCEEDED", "499")
"""Statuses of a request that was given up."""

_AWAY = ("StatusCode.UNAVAILABLE", "503")
_MOST_DOUBLINGS = 20


def retried(call: Callable[[], Result], address: Address, connection: Connection, timeout_s: float) -> Result:
    """What `call` returns, which is made again while the server is busy or away.

    Args:
        timeout_s: that `call` waits for an answer, for messages.

    Raises:
        InferenceServerException: the server refuses the request or fails.
        ServerError: it is away or busy, and stays so, or takes too long.

    Example:
        >>> answers = iter([InferenceServerException("busy", status="503"), "an answer"])
        >>> def ask() -> str:
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> retried(ask, Address.from_text("http://localhost/fastsam"), Connection(backoff_s=0), 60)
        'an answer'
    """
    for attempt in count():
        try:
            return call()
        except (InferenceServerException, OSError) as error:
            status = error.status() if isinstance(error, InferenceServerException) else None
            if status in LATE or isinstance(error, TimeoutError):
                raise ServerError(
                    f"{address.text}: no answer within {timeout_s:g} s; is the server too busy? "
                    f"give a longer timeout_s{proxy_note(address)}"
                ) from error
            if isinstance(error, InferenceServerException) and status not in _AWAY:
                raise
            if attempt >= connection.retries:
                raise ServerError(
                    f"{address.text}: away or too busy, asked {attempt + 1} times ({_reason(error)}); "
                    f"check that the server runs and that its queue is not full{proxy_note(address)}"
                ) from error
        # Half of the wait is chance: clients that were refused together do not come back together.
        time.sleep(connection.backoff_s * 2 ** min(attempt, _MOST_DOUBLINGS) * random.uniform(0.5, 1.0))
    raise AssertionError("the loop ends by itself")


def _reason(error: Exception) -> str:
    return str(error.message()) if isinstance(error, InferenceServerException) else str(error) or type(error).__name__
