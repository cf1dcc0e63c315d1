"""JSON output of commands. The functions import heavy libraries when they are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

STANDARD_OUTPUT = "-"


def json_file(target: str | None) -> Path | None:
    """The file of `--json`; None without the option, or with `-` for standard output.

    Example:
        >>> json_file("answers.json").name, json_file("-"), json_file(None)
        ('answers.json', None, None)
    """
    return None if target in (None, STANDARD_OUTPUT) else Path(target)


def write_json(target: str | None, value: Mapping[str, Any]) -> None:
    """Write plain values as one line of JSON. A file is written whole or not at all.

    Args:
        target: value of `--json`; None: nothing is written.
        value: plain JSON values.

    Raises:
        FastSamError: the file cannot be written.
        ValueError: a number is NaN or infinite.

    Example:
        >>> write_json("-", {"passed": True})
        {"passed": true}
    """
    from ..batch.json_lines import JsonLines

    if target is not None:
        with JsonLines(target) as lines:
            lines.write(value)
