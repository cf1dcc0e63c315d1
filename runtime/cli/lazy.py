"""Commands that are imported when they are used: `fastsam segment` does not wait for the modules of the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

import typer

from .messages import add_message_options
from .process import CommandGroup


class CommandModules(Mapping[str, Any]):
    """The commands of a program by name, as Typer wants them.

    The command `segment` is the function, or the group, `segment` in the module `segment` of this package. So there is
    no second copy of its texts: `--help` imports all modules.

    Args:
        names: in the order of the help.

    Example:
        >>> commands = CommandModules(["segment", "doctor"])
        >>> list(commands), "video" in commands, commands["doctor"].name
        (['segment', 'doctor'], False, 'doctor')
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return _command(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # that of Mapping would import the module

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@cache
def _command(name: str) -> Any:
    """Import a command, and have Typer make a command or a group of it; with -q and -v."""
    loaded = getattr(import_module(f".{name}", __package__), name)
    if isinstance(loaded, typer.Typer):
        app = loaded
    else:
        app = typer.Typer(add_completion=False)
        app.command(name)(loaded)
    add_message_options(app)
    return typer.main.get_command(app)


class LazyGroup(CommandGroup):
    """A program whose commands are imported when they are used.

    Example:
        >>> class Program(LazyGroup):
        ...     modules = CommandModules(["segment", "doctor"])
        >>> Program(name="program").list_commands(None)
        ['segment', 'doctor']
    """

    modules: ClassVar[CommandModules]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "commands": self.modules})

    def list_commands(self, context: Any) -> list[str]:
        """See `click.Group.list_commands`; that of Typer imports all modules."""
        return list(self.modules)
