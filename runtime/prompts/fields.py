"""The fields of a prompt's class and the keys of its JSON: what is allowed follows from the annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_type_hints

import numpy as np

from ..errors import ParameterError, PromptError

# Annotation -> what is taken for it, and what a message calls it. NumPy's numbers are registered as Integral and Real.
_TAKEN: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool, np.bool_), "true or false"),
    int: ((Integral,), "a whole number"),
    float: ((Real,), "a number"),
    str: ((str,), "a text"),
}


def known_keys(asked: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    """A copy of an object that has no other keys: a misspelt one would be ignored without a word.

    >>> known_keys({"boxes": []}, ("boxes",), "boxes")
    {'boxes': []}

    Args:
        where: it stands, for the message.

    Raises:
        PromptError: it is no object, or has another key.
    """
    if not isinstance(asked, dict):
        raise PromptError(f"{where}: {asked!r:.80} is not an object; expected keys among {', '.join(keys)}")
    unknown = sorted(set(asked) - set(keys))
    if unknown:
        raise PromptError(f"{where}: unknown key {unknown[0]!r:.80}; known are {', '.join(keys)}")
    return dict(asked)


def check_types(prompt: object, names: Sequence[str], where: str) -> None:
    """Hold fields of a frozen dataclass to their annotations (bool, int, float, str, or one of them and None).

    NumPy's scalars become Python's, which JSON can hold.

    Raises:
        ParameterError: a value is of another type.
    """
    hints = get_type_hints(type(prompt))
    for name in names:
        value = getattr(prompt, name)
        kinds = get_args(hints[name]) or (hints[name],)
        if not any(_is_of(value, kind) for kind in kinds):
            expected = next(_TAKEN[kind][1] for kind in kinds if kind is not NoneType)
            raise ParameterError(f"{where}: {name} is {value!r:.80}, expected {expected}")
        if isinstance(value, np.generic):
            object.__setattr__(prompt, name, value.item())


def without_nulls(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from JSON without those that are null: they were not given, unless None has a meaning of its own."""
    hints = get_type_hints(cls)
    return {name: value for name, value in settings.items() if value is not None or NoneType in get_args(hints[name])}


def _is_of(value: object, kind: type) -> bool:
    if kind is NoneType:
        return value is None
    # In Python True is a whole number.
    return isinstance(value, _TAKEN[kind][0]) and (kind is bool or not isinstance(value, (bool, np.bool_)))
