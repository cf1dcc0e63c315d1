"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..errors import FastSamError


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name in the same folder, then rename: the name never shows half a file.

    Raises:
        FastSamError: the folder is missing or cannot be written.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            # mkstemp makes files private; what a user saves follows the umask like any other file.
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FastSamError(f"{path}: cannot be written ({error.strerror or error}); choose another folder") from error
