"""Which kinds of prompts there are. A kind is imported when it is first needed: the list alone loads no library."""

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
"""Key in JSON → the class, or module:class in this package."""


def register(kind: _Kind) -> _Kind:
    """Add a kind of your own, for this process. Usable as a decorator of the class.

    Client and server each need it: a server that does not know the kind refuses the prompt.

    >>> @register                                                   # doctest: +SKIP
    ... class Lasso(PromptKind):
    ...     key = "lasso"

    Raises:
        ParameterError: another kind has its key.
    """
    taken = _KINDS.get(kind.key)
    # A class that is defined again (a notebook's cell, a reloaded module) takes the place of its predecessor.
    if taken is not None and (isinstance(taken, str) or _full_name(taken) != _full_name(kind)):
        raise ParameterError(
            f"prompt kind {_full_name(kind)}: the key {kind.key!r} belongs to {_full_name(kind_of_key(kind.key))}; "
            "choose another"
        )
    _KINDS[kind.key] = kind
    return kind


def kind_of_key(key: str) -> type[PromptKind]:
    """The class of a kind that there is."""
    kind = _KINDS[key]
    if isinstance(kind, str):
        module, name = kind.split(":")
        kind = getattr(import_module(f".{module}", __package__), name)
        _KINDS[key] = kind
    return kind


def is_registered(prompt: Prompt) -> TypeGuard[PromptKind]:
    """Whether its kind is known by its key; of others only `select_from` is."""
    key = getattr(prompt, "key", None)
    return key in _KINDS and isinstance(prompt, kind_of_key(key))


def kind_of_json(asked: Any, where: str) -> type[PromptKind]:
    """The kind of a prompt's JSON, by its key.

    Args:
        asked: anything that JSON can hold.
        where: it stands, for the message.

    Raises:
        PromptError: it is no object, or has the key of no kind, or of several.
    """
    keys = [key for key in _KINDS if isinstance(asked, dict) and key in asked]
    if len(keys) != 1:
        *most, last = (kind_of_key(key).example for key in _KINDS)
        raise PromptError(f"{where}: a prompt is {asked!r:.80}; expected {', '.join(most)} or {last}")
    return kind_of_key(keys[0])


def prompt_from_json(asked: Any, where: str) -> PromptKind:
    """The prompt that `PromptKind.to_json` wrote, or somebody by hand.

    >>> prompt_from_json({"everything": True}, "my file")
    Everything()

    Raises:
        PromptError, ParameterError: it is no prompt.
    """
    return kind_of_json(asked, where).from_json(asked)


def _full_name(kind: type[PromptKind]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
