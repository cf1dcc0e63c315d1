"""The bodies of requests, read within limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from ...documents import MAX_QUESTION_BYTES
from ...errors import ParameterError
from ..refusals import BodyTooLargeError, LateError, MediaTypeError
from ..requests import values_from_form, values_from_json

_MOST_FIELDS = 16
_LINGER_S = 5.0
"""The rest of a body that is refused is read for so long: clients that are still sending would not see the answer."""


async def values_of(request: Request, limit_bytes: int) -> Any:
    """The values of a request, from JSON or from a form.

    Raises:
        BodyTooLargeError: the body is larger than the limit.
        MediaTypeError: it is neither JSON nor a form.
        ParameterError, PromptError: it cannot be read.
        LateError: the client has gone.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            content = bytearray()
            async for chunk in _limited(request, limit_bytes):
                content += chunk
            return await asyncio.to_thread(values_from_json, bytes(content), limit_bytes)
        if kind == "multipart/form-data":
            return values_from_form(await _fields(request, limit_bytes))
    except ClientDisconnect:
        raise LateError("the client has closed the connection before its request was complete") from None
    await discard(request, limit_bytes)
    raise MediaTypeError(
        f"the body is {kind[:80] or 'of no type'}; expected application/json or multipart/form-data; "
        "curl sends a form with: -F image=@photo.jpg"
    )


async def discard(request: Request, most_bytes: int) -> None:
    """Read what is left of a body and forget it, up to a limit of size and time."""

    async def read() -> None:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most_bytes:
                return

    try:
        await asyncio.wait_for(read(), _LINGER_S)
    except (ClientDisconnect, asyncio.TimeoutError, RuntimeError):  # RuntimeError: it was read already
        return


async def _limited(request: Request, limit_bytes: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit_bytes:
            yield chunk
        elif size > 2 * limit_bytes:
            break
    if size > limit_bytes:
        raise BodyTooLargeError(
            f"the body has {size:,} bytes or more, the server takes {limit_bytes:,}; make the image smaller"
        )


async def _fields(request: Request, limit_bytes: int) -> dict[str, str | bytes]:
    """The fields of a form: texts, and the content of the file."""
    stream = _limited(request, limit_bytes)
    parser = MultiPartParser(
        request.headers, stream, max_files=1, max_fields=_MOST_FIELDS, max_part_size=MAX_QUESTION_BYTES
    )
    parser.spool_max_size = limit_bytes  # in memory, as the limit says
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise ParameterError(f"the form cannot be read ({error.message}); expected multipart/form-data") from error
    async with _closing(form):
        fields: dict[str, str | bytes] = {}
        for name, value in form.multi_items():
            if name in fields:
                raise ParameterError(f"field {name!r:.80} is given twice; expected it once")
            fields[name] = await value.read() if isinstance(value, UploadFile) else value
        return fields


class _closing:  # noqa: N801 used as a statement
    """Closes the files of a form at the end of a block."""

    def __init__(self, form: Any) -> None:
        self._form = form

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        await self._form.close()
