"""Which inputs a child reads: damaged ones by their numbers, or those of the corpus."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from tests.hostile.boundaries import BOUNDARIES

CORPUS = Path(__file__).parent / "corpus"


class Job(NamedTuple):
    """A range of inputs of one boundary.

    Attributes:
        boundary: its name.
        seed: of the damage; None for the inputs of the corpus.
        first, last: numbers of the inputs, from the first to the one before the last.
    """

    boundary: str
    seed: int | None
    first: int
    last: int

    def content(self, index: int) -> bytes:
        """The input of that number: the same one in every process."""
        if self.seed is None:
            return corpus_of(self.boundary)[index].read_bytes()
        return BOUNDARIES[self.boundary].case(self.seed, index)


def corpus_of(boundary: str) -> list[Path]:
    """The inputs of a boundary that once failed."""
    return sorted(path for path in (CORPUS / boundary).glob("*") if path.is_file())


def corpus_jobs() -> list[Job]:
    """All of the corpus."""
    return [Job(name, None, 0, len(files)) for name in BOUNDARIES if (files := corpus_of(name))]


def damage_jobs(names: list[str], cases: int, seed: int) -> list[Job]:
    """So many damaged inputs, spread over the boundaries by their shares."""
    whole = sum(BOUNDARIES[name].share for name in names)
    return [Job(name, seed, 0, max(2, round(cases * BOUNDARIES[name].share / whole))) for name in names]


def keep(boundary: str, content: bytes) -> Path:
    """Put an input into the corpus."""
    path = CORPUS / boundary / hashlib.sha256(content).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
