"""One line of a comparison: what was looked at, how far off the worst was, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """The worst of one comparison over all inputs, and what was allowed. NaN never passes."""

    what: str
    worst: float
    limit: float
    at: str
    more_is_better: bool = False

    @property
    def passed(self) -> bool:
        """Is it within the limit?"""
        return bool(self.worst >= self.limit if self.more_is_better else self.worst <= self.limit)

    def __str__(self) -> str:
        bound = "at least" if self.more_is_better else "at most"
        return f"{self.what} {self.worst:.3g} at {self.at}, expected {bound} {self.limit:g}"
