"""What the pipeline shall reach on a GPU, and whether a run did."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SINGLE = {"x": 1.15, "s": 1.4, "n": 1.7}
"""End to end over the network alone, one array of 3 MP; by size of the network. The smaller it is, the more the copies
count beside it."""

STREAM = 1.25
"""The same an image of a stream of arrays, for every size."""

PEER = 5.0
"""ultralytics' own pipeline on the same network over ours."""

MEGAPIXELS = 3.0


@dataclass(frozen=True)
class Goal:
    """One goal and its figure.

    Attributes:
        at_least: else at most.
    """

    text: str
    wanted: float
    measured: float
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the figure is as good as wanted."""
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted

    def __str__(self) -> str:
        sign, state = "≥" if self.at_least else "≤", "reached" if self.is_reached else "NOT reached"
        return f"- {self.text}: {self.measured:.2f}, wanted {sign} {self.wanted}: **{state}**"


def size_of(model: Path) -> str:
    """ "x" or "s" if the file's name says so; else "n", as the demo model is."""
    found = re.search(r"[-_]([xs])(?![a-z])", model.stem.lower())
    return found[1] if found else "n"


def goals(label: str, size: str, megapixels: float, ms: Mapping[str, float]) -> list[Goal]:
    """The goals of one image.

    Args:
        ms: contender → milliseconds an image.
    """
    if abs(megapixels / MEGAPIXELS - 1) > 0.1:
        return []
    found = [
        Goal(f"{label}: single over the network alone ({size})", SINGLE[size], ms["single"] / ms["network"]),
        Goal(f"{label}: stream over the network alone", STREAM, ms["stream"] / ms["network"]),
    ]
    if "ultralytics" in ms:
        found.append(Goal(f"{label}: ultralytics over single", PEER, ms["ultralytics"] / ms["single"], at_least=True))
    return found


def bound_by_decoding(label: str, ms: Mapping[str, float], threads: int) -> str:
    """What a stream of JPEG files can reach at best."""
    least = ms["decoding"] / threads
    verdict = "bound by decoding" if least > ms["stream"] else "not bound by decoding"
    return (
        f"- {label}: JPEG files take {ms['decoding']:.1f} ms to decode, on {threads} threads at best {least:.1f} ms an "
        f"image; the stream of files takes {ms['JPEG stream']:.1f} ms, that of arrays {ms['stream']:.1f} ms: {verdict}"
    )
