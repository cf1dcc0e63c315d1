"""`fastsam doctor`: what works on this machine. Heavy libraries are imported by the command."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..errors import FastSamError
from .options import ModelFileOption


def doctor(
    model: ModelFileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
) -> None:
    """Show what is installed, which engines and devices work, and why the others do not.

    Example: fastsam doctor --json
    """
    from ..batch.console import printable
    from ..measure.doctor import examine, lines

    report = examine(model)
    typer.echo(json.dumps(report, indent=2) if as_json else "\n".join(map(printable, lines(report))))
    if not any(engine["works"] for engine in report["engines"]):
        raise FastSamError("no engine works on this machine; see the reasons above")
