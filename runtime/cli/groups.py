"""Groups of options that commands subscribe to.

A group is a frozen dataclass whose fields are annotated like the parameters of a Typer command. A command that takes
a group has all its options, so an option is added to every such command by adding a field.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Set
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, TypeVar, get_type_hints

Answer = TypeVar("Answer")


def with_groups(command: Callable[..., Answer]) -> Callable[..., Answer]:
    """Make a command that Typer understands of one that takes groups of options.

    A parameter of the command itself takes the place of the option of the same name in a group, whose field then
    keeps its default. It must have one.

    Args:
        command: its parameters are groups, and parameters as Typer knows them.

    Returns:
        The command with the fields of each group in the group's place. It is called with keywords.

    Raises:
        TypeError: two groups have an option of the same name.

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
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    groups = {name: hints[name] for name in parameters if is_dataclass(hints[name])}
    replaced = parameters.keys() - groups.keys()
    merged: dict[str, inspect.Parameter] = {}
    for name, parameter in parameters.items():
        alone = [parameter.replace(annotation=hints[name])]
        for option in _options(groups[name], replaced) if name in groups else alone:
            if option.name in merged:
                raise TypeError(f"{command.__name__}: two groups have an option {option.name}; rename one of them")
            merged[option.name] = option.replace(kind=inspect.Parameter.KEYWORD_ONLY)

    @wraps(command)
    def call(**values: Any) -> Answer:
        made = {
            name: group(**{part.name: values[part.name] for part in fields(group) if part.name not in replaced})
            for name, group in groups.items()
        }
        return command(**{name: values[name] for name in replaced}, **made)

    call.__signature__ = inspect.Signature(list(merged.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: option.annotation for name, option in merged.items()}
    return call


def _options(group: type[Any], replaced: Set[str]) -> list[inspect.Parameter]:
    """The fields of a group as parameters of a command, but for those that the command has itself."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            part.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if part.default is MISSING else part.default,
            annotation=hints[part.name],
        )
        for part in fields(group)
        if part.name not in replaced
    ]
