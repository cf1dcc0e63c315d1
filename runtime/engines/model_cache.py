"""A network as its engine has prepared it, kept in a file for the next start. Only where the caller asks for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import FastSamError, ParameterError
from ..system.atomic import write_atomically
from ..system.cpu import name_and_flags

_MAGIC = b"fastsam-deploy cache 1\n"
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Prepared:
    """What a cache file holds.

    Attributes:
        content: in the engine's own format.
        metadata: of the model it was made from.
    """

    content: bytes
    metadata: Mapping[str, str] = field(default_factory=dict)


class ModelCache:
    """The cache file of one model for one engine, version, processor and settings.

    All of these are in its name, with the sum of the model's content: a file that does not fit is never opened. What
    is opened carries a sum of its own: a damaged file counts as none, and is written again.
    """

    def __init__(self, model: Path, cache: bool | str | Path, engine: str, settings: Mapping[str, object]) -> None:
        """
        Args:
            model: the model file.
            cache: True for beside the model, or a folder.
            engine: name and version.
            settings: all that changes what the engine prepares.

        Raises:
            ParameterError: cache is a folder that is not there.
        """
        folder = model.parent if isinstance(cache, bool) else Path(cache)
        if not folder.is_dir():
            raise ParameterError(f"cache is {str(cache)!r}, expected True or a folder that exists; make it first")
        name, flags = name_and_flags()
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        key = {"engine": engine, "processor": [name, *sorted(flags)], "model": digest, **settings}
        short = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.path = folder / f"{model.name}.{engine.partition(' ')[0]}-{short}.cache"

    def read(self) -> Prepared | None:
        """What was kept; None where there is nothing that is whole."""
        try:
            text = self.path.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        body = memoryview(text)[start:]
        if text[:start] != _MAGIC + hashlib.sha256(body).digest():
            return None
        end = text.index(b"\n", start)
        return Prepared(bytes(body[end - start + 1 :]), json.loads(text[start:end]))

    def write(self, prepared: Prepared) -> str:
        """Keep it: "written: PATH", or why it was not; a folder that cannot be written is no error."""
        body = json.dumps(dict(prepared.metadata)).encode() + b"\n" + prepared.content
        try:
            write_atomically(self.path, _MAGIC + hashlib.sha256(body).digest() + body)
        except FastSamError as error:
            return f"not written: {error}"
        return f"written: {self.path}"
