"""A boundary: the place where bytes of strangers become values of ours."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from tests.hostile.mutations import damaged

MB = 1_000_000


@dataclass(frozen=True)
class Boundary:
    """A reader of bytes, and what one input may take.

    Attributes:
        name: also of its folder in the corpus.
        make_seeds: makes inputs that are in order. It runs once for each process.
        read: raises FastSamError for an input that is not in order, and nothing else for any.
        seconds: of the processor, for one input.
        memory_bytes: for one input, on top of what the process has.
        share: of the cases of a campaign, relative to others.
        text: the seeds are JSON.
    """

    name: str
    make_seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]
    seconds: float = 5.0
    memory_bytes: int = 400 * MB
    share: float = 1.0
    text: bool = False

    @cached_property
    def seeds(self) -> list[bytes]:
        return self.make_seeds()

    def case(self, seed: int, index: int) -> bytes:
        """The input of that number: the same one in every process."""
        return damaged(self.seeds, random.Random(f"{seed} {self.name} {index}"), text=self.text)
