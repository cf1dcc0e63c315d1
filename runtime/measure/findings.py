"""Results of comparisons: the quantity, its worst value, and the limit.

Comparing an export with its checkpoint, a plan with its ONNX file, or a candidate with a reference always gives
findings. A `Comparison` collects the values of many comparisons and keeps the worst of each quantity.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """A measured value and its limit. NaN never passes.

    Attributes:
        what: the quantity, with its unit if it has one.
        worst: the measured value; of several comparisons, the worst.
        limit: the largest value allowed, or the smallest if more is better.
        at: where the worst value occurred, a noun such as "input (1, 3, 640, 640)"; "" if it is an overall value.
        more_is_better: the value must be at least the limit, instead of at most.

    Example:
        >>> finding = Finding("boxes (px)", 0.25, 0.05, "input (1, 3, 64, 96)")
        >>> finding.passed
        False
        >>> print(finding)
        boxes (px) 0.25 at input (1, 3, 64, 96), expected at most 0.05
        >>> print(Finding("recall", 0.9, 0.95, more_is_better=True))
        recall is 0.9, expected at least 0.95
    """

    what: str
    worst: float
    limit: float
    at: str = ""
    more_is_better: bool = False

    @property
    def passed(self) -> bool:
        """Whether the value is within its limit."""
        return bool(self.worst >= self.limit if self.more_is_better else self.worst <= self.limit)

    def __str__(self) -> str:
        bound = "least" if self.more_is_better else "most"
        value = f"{self._value} at {self.at}" if self.at else f"is {self._value}"
        return f"{self.what} {value}, expected at {bound} {self.limit:g}"

    def cells(self) -> tuple[str, str, str, str]:
        """Cells for a row of a table: the quantity, the worst value, the limit, and where the worst value occurred.

        Example:
            >>> Finding("scores", 1.25e-6, 1e-4, "input (1, 3, 64, 96)").cells()
            ('scores', '1.25e-06', '≤ 0.0001', 'input (1, 3, 64, 96)')
        """
        return self.what, self._value, f"{'≥' if self.more_is_better else '≤'} {self.limit:g}", self.at

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN stays NaN.

        Example:
            >>> Finding("recall", 0.9, 0.95, more_is_better=True).to_json()
            {'what': 'recall', 'found': 0.9, 'limit': 0.95, 'passed': False}
        """
        place = {"at": self.at} if self.at else {}
        return {"what": self.what, "found": self.worst, "limit": self.limit, **place, "passed": self.passed}

    @property
    def _value(self) -> str:
        """Four digits, or more if the value would otherwise look like the limit that it misses."""
        text = f"{self.worst:.4g}"
        return text if self.passed or float(text) != self.limit else f"{self.worst:.8g}"


@dataclass
class Comparison:
    """The worst value of each quantity over any number of comparisons, and faults that cannot be measured.

    Attributes:
        faults: what is wrong regardless of limits, such as a tensor of another shape, in words.

    Example:
        >>> comparison = Comparison()
        >>> for value, at in (0.1, "input 1"), (0.3, "input 2"), (0.2, "input 3"):
        ...     comparison.add("scores", value, at)
        >>> [str(finding) for finding in comparison.findings({"scores": 0.5})]
        ['scores 0.3 at input 2, expected at most 0.5']
        >>> comparison.failures({"scores": 0.25})
        ['scores 0.3 at input 2, expected at most 0.25']
    """

    faults: list[str] = field(default_factory=list)
    _worst: dict[str, Finding] = field(default_factory=dict)

    def add(self, what: str, value: float, at: str = "", *, more_is_better: bool = False) -> None:
        """Add a value of a quantity. NaN is worse than any number."""
        known = self._worst.get(what)
        if known is None or _is_worse(value, known.worst, more_is_better=more_is_better):
            self._worst[what] = Finding(what, value, math.nan, at, more_is_better)

    def findings(self, limits: Mapping[str, float | None]) -> tuple[Finding, ...]:
        """A finding for each quantity that was compared and has a limit, in the order of the limits.

        Args:
            limits: quantity → limit; None if any value is allowed.
        """
        return tuple(
            Finding(what, worst.worst, limit, worst.at, worst.more_is_better)
            for what, limit in limits.items()
            if limit is not None and (worst := self._worst.get(what)) is not None
        )

    def failures(self, limits: Mapping[str, float | None]) -> list[str]:
        """The faults, and the findings beyond their limits, in words; an empty list if there are none."""
        return [*self.faults, *failures(self.findings(limits))]


def failures(findings: Iterable[Finding]) -> list[str]:
    """The findings beyond their limits, in words; an empty list if there are none.

    Example:
        >>> failures([Finding("scores", 0.1, 0.2), Finding("recall", 0.9, 0.95, more_is_better=True)])
        ['recall is 0.9, expected at least 0.95']
    """
    return [str(finding) for finding in findings if not finding.passed]


def _is_worse(value: float, known: float, *, more_is_better: bool) -> bool:
    if math.isnan(value) or math.isnan(known):
        return not math.isnan(known)
    return value < known if more_is_better else value > known
