"""The hash of a file, read piece by piece."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

_BLOCK = 1 << 20


def sha256_of_file(file: BinaryIO) -> str:
    """SHA-256 of an open file from its start, hexadecimal.

    Example:
        >>> from io import BytesIO
        >>> sha256_of_file(BytesIO(b"content"))[:8]
        'ed7002b4'
    """
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()
