"""`fastsam download`: published weights, and the ONNX file that is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import MissingDependencyError, ModelError, pip_install
from .exporter import run_exporter
from .options import option

if TYPE_CHECKING:
    from rich.console import Console

    from ..weights.published import PublishedWeights


def download(
    name: Annotated[str, typer.Argument(metavar="FastSAM-s|FastSAM-x", help="Which weights.", show_default=False)],
    *,
    folder: Annotated[
        Path | None, option("Folder for the files. Default: FASTSAM_CACHE, or your folder for caches.", "--folder")
    ] = None,
    release: Annotated[
        str | None, option("Web address of a folder with a copy of the public release.", "--from", metavar="URL")
    ] = None,
    imgsz: Annotated[int, option("Default side of the network's input in the ONNX file, pixels.")] = 1024,
) -> None:
    """Download FastSAM-s (24 MB) or FastSAM-x (145 MB), and make an ONNX file of it; needs no PyTorch.

    Then `--model FastSAM-s` and FastSAM("FastSAM-s") work. An interrupted download is continued. The weights are
    checked by their SHA-256; their licence is AGPL-3.0.

    Example: fastsam download FastSAM-s
    """
    from ..batch.console import open_console, say
    from ..weights.cache import cache_folder
    from ..weights.published import published

    weights = published(name)
    if find_spec("onnx") is None:  # before 145 MB are downloaded
        raise MissingDependencyError(
            f"an ONNX file cannot be made: onnx is not installed; run: {pip_install('direct')}"
        )
    place = cache_folder() if folder is None else folder
    model = place / f"{weights.name}.onnx"
    if not model.is_file():
        console = open_console(stderr=True)
        checkpoint = _fetch(weights, place / weights.file_name, release, console)
        _convert(checkpoint, model, imgsz, ("--quiet",) if console.quiet else ())
    shown = weights.name if folder is None else str(model)
    say(open_console(), f"{model} is there; use it with: fastsam segment photo.jpg --model {shown}")


def _fetch(weights: PublishedWeights, target: Path, release: str | None, console: Console) -> Path:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from ..weights.fetch import fetch
    from ..weights.published import RELEASE

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(weights.file_name, total=weights.size_bytes)
        return fetch(
            weights,
            target,
            release=release or RELEASE,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _convert(checkpoint: Path, model: Path, imgsz: int, options: Sequence[str]) -> None:
    arguments = ["onnx", str(checkpoint), "--direct", "--output", str(model), "--imgsz", str(imgsz), *options]
    if run_exporter(arguments):
        raise ModelError(
            f"{checkpoint} was downloaded, but no ONNX file could be made of it; see the lines above, then run the "
            "command again: nothing is downloaded twice"
        )
