"""The command `fastsam`: parses arguments, runs, returns an exit code. The commands import heavy libraries."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from ..errors import FastSamError
from .app import app as web_page
from .batch import app as batch_app
from .bench_accuracy import edges, instances, proposals
from .bench_fidelity import app as bench_app
from .bench_speed import speed
from .config import with_config
from .download import download
from .messages import VersionOption, add_message_options
from .options import ModelFileOption
from .process import CommandGroup, run_command
from .segment import segment
from .serve import serve
from .tune import tune
from .video import video

app = typer.Typer(
    name="fastsam",
    cls=CommandGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug shows an ordinary traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)


bench_app.command("speed")(speed)
for accuracy in (edges, proposals, instances):
    bench_app.command(accuracy.__name__)(accuracy)
app.add_typer(bench_app)
app.add_typer(batch_app)
app.command()(with_config(segment))
app.command()(with_config(video))
app.command()(with_config(serve))
app.command("app")(with_config(web_page))
app.command()(download)
app.command()(tune)


@app.callback()
def _options(
    version: VersionOption = False,
) -> None:
    """Segment anything in images with FastSAM: no PyTorch, no GPU needed.

    --install-completion completes commands and options in your shell.
    """


@app.command()
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


add_message_options(app)


def main() -> int:
    """Run the command: exit code 0, or 2 with one line on standard error. A bug shows its traceback.

    Example:
        >>> sys.argv = ["fastsam", "segment", "photo.jpg"]  # doctest: +SKIP
        >>> main()  # doctest: +SKIP
        0
    """
    return run_command("fastsam", app)


if __name__ == "__main__":
    sys.exit(main())
