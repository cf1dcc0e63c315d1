"""Checks of a prompt's fields and of the keys in its JSON. The types follow from the annotations of the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import NoneType
from typing import Any, get_args, get_type_hints

import numpy as np

from ..errors import ParameterError, PromptError

# Annotation -> accepted types, and their name in messages. NumPy's numbers are registered as Integral and Real.
_ACCEPTED: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool, np.bool_), "true or false"),
    int: ((Integral,), "a whole number"),
    float: ((Real,), "a number"),
    str: ((str,), "a text"),
}


def known_keys(document: Any, keys: Sequence[str], where: str) -> dict[str, Any]:
    """A copy of a JSON object that has only known keys. Otherwise a misspelt key would be ignored silently.

    Args:
        document: the parsed JSON.
        keys: the known keys.
        where: the source of the object, for messages.

    Raises:
        PromptError: the document is not an object, or has an unknown key.

    Example:
        >>> known_keys({"boxes": []}, ("boxes",), "boxes")
        {'boxes': []}
    """
    if not isinstance(document, dict):
        raise PromptError(f"{where}: {document!r:.80} is not an object; expected keys among {', '.join(keys)}")
    unknown = sorted(set(document) - set(keys))
    if unknown:
        raise PromptError(f"{where}: unknown key {unknown[0]!r:.80}; known keys are {', '.join(keys)}")
    return dict(document)


def check_types(prompt: object, names: Sequence[str], where: str) -> None:
    """Check fields of a frozen dataclass against their annotations: bool, int, float or str, each optionally with None.

    NumPy scalars are replaced by Python's, which JSON supports.

    Args:
        prompt: the dataclass.
        names: names of the fields to check.
        where: name of the prompt, for messages.

    Raises:
        ParameterError: a value is of another type.

    Example:
        >>> from fastsam_deploy.runtime import Text
        >>> check_types(Text("a dog"), ("mode", "max_masks"), "text prompt")
    """
    hints = get_type_hints(type(prompt))
    for name in names:
        value = getattr(prompt, name)
        kinds = get_args(hints[name]) or (hints[name],)
        if not any(_is_of(value, kind) for kind in kinds):
            expected = next(_ACCEPTED[kind][1] for kind in kinds if kind is not NoneType)
            raise ParameterError(f"{where}: {name} is {value!r:.80}, expected {expected}")
        if isinstance(value, np.generic):
            object.__setattr__(prompt, name, value.item())


def without_nulls(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from JSON without those that are null, which stands for the default unless the field accepts None.

    Args:
        cls: the dataclass of the settings.
        settings: values of its fields, from JSON.

    Example:
        >>> from fastsam_deploy.runtime import Text
        >>> without_nulls(Text, {"mode": None, "max_masks": None})
        {'max_masks': None}
    """
    hints = get_type_hints(cls)
    return {name: value for name, value in settings.items() if value is not None or NoneType in get_args(hints[name])}


def _is_of(value: object, kind: type) -> bool:
    if kind is NoneType:
        return value is None
    # In Python, bool is a subclass of int.
    return isinstance(value, _ACCEPTED[kind][0]) and (kind is bool or not isinstance(value, (bool, np.bool_)))
