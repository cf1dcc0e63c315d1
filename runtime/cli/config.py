"""`--config FILE.toml`: options of a command from a file. What the command line has comes first."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ..errors import ParameterError
from .parameters import added_option, parameters_of, with_parameters

Result = TypeVar("Result")

COMMANDS = ("segment", "video", "serve", "app")
"""Commands that have --config, whose names are tables in its file."""

_NOT_IN_FILES = ("config", "help")


def with_config(command: Callable[..., Result]) -> Callable[..., Result]:
    """A command with the option --config.

    Args:
        command: its parameters are as Typer expects them.

    Returns:
        The command; it is called with keyword arguments.

    Example:
        >>> @with_config
        ... def greet(name: str) -> None:
        ...     print("hello", name)
        >>> greet(name="you", config=None)
        hello you
    """
    option = typer.Option(
        "--config",
        metavar="FILE.toml",
        is_eager=True,
        callback=_read,
        help="Options from a file, by the same names: conf = 0.3. The command line comes first.",
    )
    config = added_option("config", Annotated[Path | None, option], None)

    @wraps(command)
    def call(**values: Any) -> Result:
        values.pop("config", None)
        return command(**values)

    return with_parameters(call, [*parameters_of(command).values(), config])


def _read(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None and not context.resilient_parsing:
        name = context.info_name or ""
        context.default_map = defaults(path, _contents(path), name, context.command.params)
    return path


def _contents(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        contents: dict[str, Any] = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ParameterError(f"{path}: cannot be read ({error.strerror}); expected a TOML file") from error
    except ValueError as error:
        raise ParameterError(f"{path}: is not TOML ({error}); expected lines such as conf = 0.3") from error
    return contents


def defaults(path: Path, contents: Mapping[str, Any], command: str, parameters: list[Any]) -> dict[str, Any]:
    """The values of a file by the names of the parameters of a command.

    Args:
        path: of the file, for messages.
        contents: of the file: names of options, without dashes at their beginning, and tables called like commands.
        command: whose table is used; the tables of others are not.
        parameters: of the command, as Click or Typer have them.

    Raises:
        ParameterError: an option is unknown, or a flag is neither true nor false.

    Example:
        >>> defaults(Path("a.toml"), {"video": {"conf": 0.3}}, "segment", [])
        {}
    """
    known = {
        option.lstrip("-"): parameter
        for parameter in parameters
        for option in parameter.opts
        if option.startswith("--") and parameter.name not in _NOT_IN_FILES
    }
    own = contents.get(command, {})
    if not isinstance(own, dict):
        raise ParameterError(f"{path}: {command} is {own!r:.40}, expected a table [{command}] with options")
    given = {**{name: value for name, value in contents.items() if name not in COMMANDS}, **own}
    values = {}
    for name, value in given.items():
        parameter = known.get(name.replace("_", "-"))
        if parameter is None:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
            raise ParameterError(f"{path}: {command} has no option {name!r}; {hint}")
        values[parameter.name] = _value(path, name, value, parameter)
    return values


def _value(path: Path, name: str, value: Any, parameter: Any) -> Any:
    """The value as it would stand on the command line."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise ParameterError(f"{path}: {name} is {value!r:.40}, expected true or false")
        return value
    if getattr(parameter, "multiple", False):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return value
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return [json.dumps(item) for item in value]
        return [value if isinstance(value, str) else json.dumps(value)]
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else str(value)
