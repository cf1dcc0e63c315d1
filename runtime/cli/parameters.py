"""The parameters of a command as Typer reads them, and commands with other ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, get_type_hints

Result = TypeVar("Result")


def parameters_of(command: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters by name, with annotations that are types and not texts.

    Example:
        >>> def greet(name: "str") -> None: ...
        >>> parameters_of(greet)["name"].annotation
        <class 'str'>
    """
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    return {name: parameter.replace(annotation=hints[name]) for name, parameter in parameters.items()}


def added_option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    """A parameter that is given by its name.

    Example:
        >>> str(added_option("loud", bool, False))
        'loud: bool = False'
    """
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def with_parameters(call: Callable[..., Result], parameters: Iterable[inspect.Parameter]) -> Callable[..., Result]:
    """Have Typer see these parameters in place of those of the function, which takes any keyword arguments.

    Example:
        >>> def call(**values): ...
        >>> inspect.signature(with_parameters(call, [added_option("loud", bool, False)]))
        <Signature (*, loud: bool = False)>
    """
    listed = list(parameters)
    call.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in listed}
    return call
