"""Image files written as text: base64, which JSON needs, and `data:` URLs, which web pages have."""

from __future__ import annotations

import base64
import binascii
import re

from ...errors import ImageError
from .formats import SIGNATURE_BYTES, begins_as_image

_HEAD = re.compile(rb"data:[^,]{0,200}?(;base64)?,", re.IGNORECASE)
_HEAD_BYTES = 256
_SPACE = re.compile(rb"\s+")
_SAFE_IN_URLS = bytes.maketrans(b"-_", b"+/")


def is_data_url(text: str | bytes) -> bool:
    """Whether it is a `data:` URL.

    >>> is_data_url("data:image/png;base64,iVBORw0KGgo="), is_data_url("photo.png")
    (True, False)
    """
    return text[:5].lower() in ("data:", b"data:")


def decode_text(content: bytes, name: str) -> bytes:
    """The image file in base64 or in a `data:` URL; any other content as it is.

    Both alphabets of base64, line breaks, and an end without "=" are accepted.

    Raises:
        ImageError: it is a `data:` URL, or begins as an image in base64, and cannot be decoded.

    >>> decode_text(b"data:image/gif;base64,R0lGODlh", "x"), decode_text(b"R0lG\\nODlh", "x")
    (b'GIF89a', b'GIF89a')
    """
    if is_data_url(content):
        head = _HEAD.match(content[:_HEAD_BYTES])
        if head is None or not head[1]:
            raise ImageError(
                f"{name}: a data: URL that begins with {content[:40]!r}; expected data:image/jpeg;base64,…; encode it "
                "as base64"
            )
        return _decoded(content[head.end() :], name)
    if begins_as_image(content[:SIGNATURE_BYTES]) or not _is_image_in_base64(content[: 2 * SIGNATURE_BYTES]):
        return content
    return _decoded(content, name)


def _is_image_in_base64(start: bytes) -> bool:
    text = _SPACE.sub(b"", start)
    try:
        return begins_as_image(_decoded(text[: len(text) // 4 * 4], ""))
    except ImageError:
        return False


def _decoded(text: bytes, name: str) -> bytes:
    text = _SPACE.sub(b"", text).translate(_SAFE_IN_URLS).rstrip(b"=")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ImageError(f"{name}: base64 that cannot be decoded ({error}); encode the image file again") from error
