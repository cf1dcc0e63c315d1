"""`fastsam-export`: checkpoints to files that are proven equal to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from ..runtime.errors import FastSamError, MissingDependencyError, ParameterError

if TYPE_CHECKING:
    from .validate import Proof

app = typer.Typer(
    name="fastsam-export",
    help="Export FastSAM checkpoints to files that are proven equal to them, or leave nothing behind.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _commands() -> None:
    """Export FastSAM checkpoints to files that are proven equal to them, or leave nothing behind."""


@app.command()
def onnx(
    checkpoint: Annotated[str, typer.Argument(help="A .pt file, or FastSAM-s.pt / FastSAM-x.pt to download.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Default: checkpoint's name + .onnx.")] = None,
    imgsz: Annotated[str, typer.Option(help="Side of the input in pixels, or H,W; the default if dynamic.")] = "1024",
    dynamic: Annotated[bool, typer.Option("--dynamic/--fixed", help="Any batch and size, or one only.")] = True,
    batch: Annotated[int, typer.Option(help="Batch size of a fixed export.")] = 1,
    opset: Annotated[int, typer.Option(help="ONNX operator set.")] = 18,
    half: Annotated[bool, typer.Option("--half", help="FP16 arithmetic; input and outputs stay FP32.")] = False,
    compact: Annotated[bool, typer.Option("--compact", help="FP16 storage without loss, FP32 arithmetic.")] = False,
    simplify: Annotated[bool, typer.Option(help="Fold the graph with onnxslim.")] = True,
    exporter: Annotated[str, typer.Option(help="dynamo or torchscript.")] = "dynamo",
    images: Annotated[Path | None, typer.Option(help="Photographs to compare on; default: three of ours.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Unpickle freely: the checkpoint can run code.")] = False,
) -> None:
    """Checkpoint to ONNX, compared with the checkpoint on photographs."""
    try:
        from .to_onnx import export_onnx
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"{error}; run: pip install 'fastsam-deploy[export]'") from error

    target = output or Path(Path(checkpoint).stem + ".onnx")
    chosen: dict[str, Any] = {"dynamic": dynamic, "batch": batch, "opset": opset, "half": half, "compact": compact}
    chosen |= {"simplify": simplify, "exporter": exporter, "images": images, "trust": trust}
    with Console(stderr=True).status("starting") as status:
        proof = export_onnx(checkpoint, target, imgsz=size_from_text(imgsz), step=status.update, **chosen)
    _report(proof, Console())


def size_from_text(text: str) -> int | tuple[int, int]:
    """ "1024" → 1024, "768,1024" → (768, 1024) as (H, W).

    Raises:
        ParameterError: it is neither.
    """
    try:
        sides = [int(part) for part in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise ParameterError(
            f"imgsz is {text!r}, expected one whole number, or two as H,W; for example 1024 or 768,1024"
        )
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _report(proof: Proof, console: Console) -> None:
    table = Table("compared with the checkpoint", "worst", "allowed", "at")
    for finding in proof.findings:
        bound = "≥" if finding.more_is_better else "≤"
        table.add_row(finding.what, f"{finding.worst:.3g}", f"{bound} {finding.limit:g}", finding.at)
    console.print(table)
    spec = proof.spec
    size = "any" if spec.fixed_hw is None else "{} × {}".format(*spec.fixed_hw)
    found = f"{proof.detections} detections by the checkpoint, {proof.detections_exported} by the file"
    if not proof.detections:
        found = "the checkpoint finds nothing in these photographs: masks of its best anchors were compared"
    megabytes = proof.path.stat().st_size / 1e6
    console.print(
        f"{proof.path}: {spec.precision}, batch {spec.batch or 'any'}, size {size} (default {spec.imgsz}), "
        f"{megabytes:.1f} MB; {found}",
        soft_wrap=True,
        highlight=False,
    )


def main() -> None:
    """The command: exit code 0, or 2 with one line on stderr for an expected error."""
    try:
        app()
    except FastSamError as error:
        print(f"fastsam-export: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
