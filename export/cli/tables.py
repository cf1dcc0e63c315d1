"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from ...runtime.batch.console import say
from ...runtime.measure.findings import Finding

if TYPE_CHECKING:
    from rich.console import Console

    from ..tensorrt.check import ModelCheck


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


def print_layers(lines: Iterable[str], console: Console) -> None:
    """Print the layers of a plan.

    Args:
        lines: see `Layer.line`.

    Example:
        >>> from rich.console import Console
        >>> print_layers(["correlation\\tconv\\tfp16 1x3x?x?\\tfp16 1x8x?x?"], Console(width=60))
        kind         name  inputs        outputs
        correlation  conv  fp16 1x3x?x?  fp16 1x8x?x?
    """
    rows = [("kind", "name", "inputs", "outputs"), *(line.split("\t") for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        # No table of rich, which would cut long names: these lines are for grep.
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        say(console, "  ".join([*cells, row[3]]).rstrip())


def print_check(check: ModelCheck, console: Console) -> None:
    """Print which GPUs take a file, and why others do not.

    Example:
        >>> print_check(check_model(Path("fastsam.onnx")), Console())  # doctest: +SKIP
        fastsam.onnx: fp32, TensorRT for RTX 1.7.1.116; images 1x3x32x32 … 8x3x640x640 (best 8x3x640x640)
          sm86: 17.5 MB; convolutions: 77 fp32; other layers: 62 fp32
    """
    shapes = "; ".join(f"{name} {shapes}" for name, shapes in check.shapes.items()) or "of one shape"
    say(console, f"{check.model}: {check.precision}, TensorRT for RTX {check.version}; {shapes}")
    for verdict in check.verdicts:
        if verdict.plan_bytes is None:
            say(console, f"  {verdict.gpu}: refused: {verdict.reason}")
        else:
            say(console, f"  {verdict.gpu}: {verdict.plan_bytes / 1e6:.1f} MB; {verdict.layers}")
