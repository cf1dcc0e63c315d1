"""`fastsam bench`: speed, fidelity and accuracy of models on your own images."""

from __future__ import annotations

import typer

from .bench_accuracy import edges, instances, proposals
from .bench_fidelity import fidelity
from .bench_speed import speed

bench = typer.Typer(name="bench", help="Measure models on your own images.", no_args_is_help=True, add_completion=False)
for command in (fidelity, speed, edges, proposals, instances):
    bench.command(command.__name__)(command)


@bench.callback()
def _commands() -> None:
    """Measure models on your own images."""
