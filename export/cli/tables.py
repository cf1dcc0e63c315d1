"""Findings as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from ...runtime.measure.findings import Finding


def findings_table(title: str, findings: Iterable[Finding]) -> Table:
    """Make a table: what was compared, the worst value, what is allowed, and where the worst value was.

    Example:
        >>> table = findings_table("compared with the checkpoint", [Finding("scores", 1e-6, 1e-4, "input 1")])
        >>> [column.header for column in table.columns]
        ['compared with the checkpoint', 'worst', 'allowed', 'at']
    """
    table = Table(title, "worst", "allowed", "at")
    for finding in findings:
        table.add_row(*finding.cells())
    return table
