"""An image of a source: how it is called, and where its bytes are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image that was listed and is not read yet.

    Attributes:
        id: unique within a run; results are found by it.
        location: path or URL of its file, or of the tar shard that it is in.
        fingerprint: changes when the content does, without reading it: size and time of change, or the ETag of an
            object store; "" where nothing is known.
        prompts: JSON list of its own prompts; None: those of the run.
        member: name within the shard; None for a file of its own.
        offset: where its bytes begin in a shard that is not compressed; None elsewhere.
        size: number of its bytes, where it is known.

    Example:
        >>> SourceImage("cats/1.jpg", "/photos/cats/1.jpg", "37201-1700000000000000000").member is None
        True
    """

    id: str
    location: str
    fingerprint: str = ""
    prompts: str | None = None
    member: str | None = None
    offset: int | None = None
    size: int | None = None
