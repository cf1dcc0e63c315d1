"""Tables in Markdown, with the paper's rows beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def markdown(title: str, columns: Sequence[str], rows: Mapping[str, Mapping[str, float]]) -> str:
    """A table with a row for each method; a figure that a row lacks is a dash.

    Example:
        >>> print(markdown("Edges", ["ODS"], {"demo": {"ODS": 0.5}}))
        ### Edges
        <BLANKLINE>
        | method | ODS |
        |---|---:|
        | demo | 0.500 |
        <BLANKLINE>
    """
    head = f"### {title}\n\n| method | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}\n"
    return head + "".join(
        f"| {name} | {' | '.join(_cell(values.get(column)) for column in columns)} |\n" for name, values in rows.items()
    )


def _cell(value: float | None) -> str:
    return "–" if value is None or value < 0 else f"{value:.3f}"
