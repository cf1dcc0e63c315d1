"""The command `fastsam`: parses arguments, runs, returns an exit code. The commands import heavy libraries."""

from __future__ import annotations

import sys

import typer

from .lazy import CommandModules, LazyGroup
from .messages import VersionOption
from .process import run_command

COMMANDS = ("segment", "video", "serve", "app", "download", "tune", "doctor", "bench", "batch")
"""Each is in the module of its name."""


class FastsamGroup(LazyGroup):
    """The commands of `fastsam`.

    Example:
        >>> "segment" in FastsamGroup.modules
        True
    """

    modules = CommandModules(COMMANDS)


app = typer.Typer(
    name="fastsam",
    cls=FastsamGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug shows an ordinary traceback
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _options(
    version: VersionOption = False,
) -> None:
    """Segment anything in images with FastSAM: no PyTorch, no GPU needed.

    --install-completion completes commands and options in your shell.
    """


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
