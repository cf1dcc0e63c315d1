"""The registered kinds of prompts. A kind is imported when it is first needed, so that this module loads no library."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from ..errors import ParameterError, PromptError
from .base import PromptKind

if TYPE_CHECKING:
    from ..segments import Prompt

_Kind = TypeVar("_Kind", bound=type[PromptKind])

_KINDS: dict[str, str | type[PromptKind]] = {
    "points": "points:Points",
    "boxes": "boxes:Boxes",
    "text": "text:Text",
    "everything": "everything:Everything",
}
"""Key in JSON → the class, or its module:class in this package."""


def register(kind: _Kind) -> _Kind:
    """Register a kind of prompt in this process. It can be used as a class decorator.

    Register the kind on the client and on the server: a server refuses prompts of a kind that it does not know.

    Returns:
        The class.

    Raises:
        ParameterError: another kind has the same key.

    Example:
        >>> @register                                                   # doctest: +SKIP
        ... class Lasso(PromptKind):
        ...     key = "lasso"
    """
    present = _KINDS.get(kind.key)
    # A class that is defined again (in a notebook's cell, by a reload) replaces its predecessor.
    if present is not None and (isinstance(present, str) or _full_name(present) != _full_name(kind)):
        raise ParameterError(
            f"prompt kind {_full_name(kind)}: the key {kind.key!r} belongs to {_full_name(kind_of_key(kind.key))}; "
            "choose another"
        )
    _KINDS[kind.key] = kind
    return kind


def kind_of_key(key: str) -> type[PromptKind]:
    """The class of a registered kind.

    Raises:
        KeyError: no kind has this key.

    Example:
        >>> kind_of_key("boxes").__name__
        'Boxes'
    """
    kind = _KINDS[key]
    if isinstance(kind, str):
        module, name = kind.split(":")
        kind = getattr(import_module(f".{module}", __package__), name)
        _KINDS[key] = kind
    return kind


def registered_keys() -> tuple[str, ...]:
    """The keys of all kinds in JSON.

    Example:
        >>> registered_keys()
        ('points', 'boxes', 'text', 'everything')
    """
    return tuple(_KINDS)


def is_registered(prompt: Prompt) -> TypeGuard[PromptKind]:
    """Whether a prompt is of a registered kind. Other prompts have only `select_from`, and cannot be sent.

    Example:
        >>> from fastsam_deploy.runtime import Everything
        >>> is_registered(Everything())
        True
    """
    key = getattr(prompt, "key", None)
    return key in _KINDS and isinstance(prompt, kind_of_key(key))


def kind_of_json(document: Any, where: str) -> type[PromptKind]:
    """The kind of prompt that a JSON object describes, by its key.

    Args:
        document: any parsed JSON.
        where: the source of the JSON, for messages.

    Raises:
        PromptError: it is not an object, or has the keys of no kind or of several kinds.

    Example:
        >>> kind_of_json({"boxes": [[10, 20, 110, 120]]}, "my file").__name__
        'Boxes'
    """
    keys = [key for key in _KINDS if isinstance(document, dict) and key in document]
    if len(keys) != 1:
        *most, last = (kind_of_key(key).example for key in _KINDS)
        raise PromptError(f"{where}: a prompt is {document!r:.80}; expected {', '.join(most)} or {last}")
    return kind_of_key(keys[0])


def prompt_from_json(document: Any, where: str) -> PromptKind:
    """The prompt in a JSON object, from `PromptKind.to_json` or written by hand.

    Args:
        document: any parsed JSON.
        where: the source of the JSON, for messages.

    Raises:
        PromptError, ParameterError: it is not a valid prompt.

    Example:
        >>> prompt_from_json({"everything": True}, "my file")
        Everything()
    """
    return kind_of_json(document, where).from_json(document)


def _full_name(kind: type[PromptKind]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
