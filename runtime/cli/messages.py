"""-q and -v, which every command of both programs has, and --version."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

from .. import __version__
from ..batch.console import open_console, say, shown
from ..errors import ParameterError
from .parameters import added_option, parameters_of, with_parameters

Result = TypeVar("Result")

_OPTIONS = {
    "quiet": (("--quiet", "-q"), "Print errors only."),
    "verbose": (("--verbose", "-v"), "Print more."),
}


def _print_version(wanted: bool) -> None:
    if wanted:
        say(open_console(), f"fastsam-deploy {__version__}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
]


def add_message_options(app: typer.Typer) -> None:
    """Add -q and -v to all commands of a program, those of its groups included, which have been registered.

    Example:
        >>> app = typer.Typer()
        >>> add_message_options(app)
    """
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = with_messages(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_message_options(group.typer_instance)


def with_messages(command: Callable[..., Result]) -> Callable[..., Result]:
    """A command with the options -q and -v. One that has such an option already keeps it.

    Args:
        command: its parameters are as Typer expects them.

    Returns:
        The command; it is called with keyword arguments.

    Example:
        >>> @with_messages
        ... def greet(name: str) -> None:
        ...     print("hello", name)
        >>> greet(name="you", quiet=True, verbose=False)
        hello you
    """
    parameters = parameters_of(command)
    added = {
        name: added_option(name, Annotated[bool, typer.Option(*names, help=text)], False)
        for name, (names, text) in _OPTIONS.items()
        if name not in parameters
    }

    @wraps(command)
    def call(**values: Any) -> Result:
        quiet, verbose = bool(values.get("quiet")), bool(values.get("verbose"))
        if quiet and verbose:
            raise ParameterError("--quiet and --verbose are given, expected one of them; leave one out")
        with shown(-1 if quiet else int(verbose)):
            return command(**{name: value for name, value in values.items() if name not in added})

    return with_parameters(call, [*parameters.values(), *added.values()])
