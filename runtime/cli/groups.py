"""Groups of options that several commands share.

A group is a frozen dataclass whose fields are annotated like the parameters of a Typer command. A command with a
parameter of that type has all options of the group: a new field is a new option of every such command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, TypeVar, get_type_hints

from .parameters import added_option, parameters_of, with_parameters

Result = TypeVar("Result")


def with_groups(command: Callable[..., Result]) -> Callable[..., Result]:
    """Replace groups of options in the parameters of a command by their options, for Typer.

    A parameter of the command replaces the option of the same name in a group. The field of the group must have a
    default, which it then keeps.

    Args:
        command: its parameters are groups, and parameters as Typer expects them.

    Returns:
        The command with the fields of each group instead of the group. It is called with keyword arguments.

    Raises:
        TypeError: two groups have an option of the same name.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Volume:
        ...     loudness: int = 5
        >>> @with_groups
        ... def play(song: str, *, volume: Volume) -> None:    # play SONG --loudness 7
        ...     print(song, volume.loudness)
        >>> play(song="So What", loudness=7)
        So What 7
    """
    parameters = parameters_of(command)
    groups: dict[str, Any] = {
        name: parameter.annotation for name, parameter in parameters.items() if is_dataclass(parameter.annotation)
    }
    replaced = parameters.keys() - groups.keys()
    merged: dict[str, inspect.Parameter] = {}
    for name, parameter in parameters.items():
        for option in _options(groups[name], replaced) if name in groups else [parameter]:
            if option.name in merged:
                raise TypeError(f"{command.__name__}: two groups have an option {option.name}; rename one of them")
            merged[option.name] = option.replace(kind=inspect.Parameter.KEYWORD_ONLY)

    @wraps(command)
    def call(**values: Any) -> Result:
        options = {
            name: group(**{part.name: values[part.name] for part in fields(group) if part.name not in replaced})
            for name, group in groups.items()
        }
        return command(**{name: values[name] for name in replaced}, **options)

    return with_parameters(call, merged.values())


def _options(group: type[Any], replaced: Set[str]) -> list[inspect.Parameter]:
    """The fields of a group as parameters of a command, except those that the command replaces."""
    hints = get_type_hints(group, include_extras=True)
    return [
        added_option(part.name, hints[part.name], inspect.Parameter.empty if part.default is MISSING else part.default)
        for part in fields(group)
        if part.name not in replaced
    ]
