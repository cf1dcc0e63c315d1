"""A stand-in for the module `tensorrt`, made from the signatures of the real bindings (api-*.json).

It has the classes, members, enums and signatures of one real version and nothing else: what our code uses and the real
module does not have is an AttributeError or a TypeError here too. What the calls do is in trt_world.py; it is enough to
go through the builder and the engine, and to let them fail. It says nothing about TensorRT's numbers.
"""

from __future__ import annotations

import collections.abc
import enum
import types
from collections.abc import Callable
from typing import Any

Behaviour = Callable[..., Any]


class Uses(set[tuple[str, str]]):
    """(class, member) of everything that was used."""


def module_from(api: dict[str, Any], behaviour: dict[str, Behaviour], uses: Uses) -> types.ModuleType:
    """The stand-in.

    Args:
        api: of one version, see trt_describe.py.
        behaviour: "Class.member" → what it does: `function(self, *arguments)` for a method, and for a property the
            same with no argument to read it and with one to set it. A property without one is a plain value.
        uses: gets what is used.
    """
    module = types.ModuleType("tensorrt")
    module.__dict__["__version__"] = api["version"]
    for name, described in api["classes"].items():
        module.__dict__[name] = _class(module, name, described, behaviour, uses)
    return module


def _class(
    module: types.ModuleType, name: str, described: dict[str, Any], behaviour: dict[str, Behaviour], uses: Uses
) -> type:
    if "enum" in described:
        return enum.IntEnum(name, described["enum"])
    members: dict[str, Any] = {"__setattr__": _only_declared(name)}
    for member, found in described["members"].items():
        key = f"{name}.{member}"
        if "enum" in found or "members" in found:
            members[member] = _class(module, member, found, behaviour, uses)
        elif "property" in found:
            members[member] = _property(module, name, member, found, behaviour.get(key), uses)
        elif found["signatures"]:
            members[member] = _method(module, name, member, found["signatures"], behaviour.get(key), uses)
        elif member == "__init__":
            members[member] = _not_constructible(name)
    bases = (bytes,) if name == "IHostMemory" else ()  # it has the buffer protocol, which Python code cannot write
    return type(name, bases, members)


def _only_declared(name: str) -> Callable[[Any, str, Any], None]:
    """The bindings' objects take no new attributes; subclasses written in Python do."""

    def setter(self: Any, attribute: str, value: Any) -> None:
        ours = type(self).__name__ == name
        if ours and not attribute.startswith("x_") and not hasattr(type(self), attribute):
            raise AttributeError(f"{name!r} object has no attribute {attribute!r}")
        object.__setattr__(self, attribute, value)

    return setter


def _not_constructible(name: str) -> Behaviour:
    def init(self: Any, *_: Any) -> None:
        if type(self).__name__ != name or not _allowed[0]:
            raise TypeError(f"{name}: No constructor defined!")

    return init


_allowed = [False]


def made(kind: type, /, **values: Any) -> Any:
    """An object of a class that cannot be constructed; its own state gets the prefix x_."""
    _allowed[0] = True
    try:
        found = kind()
    finally:
        _allowed[0] = False
    for name, value in values.items():
        setattr(found, f"x_{name}", value)
    return found


def _property(
    module: types.ModuleType, owner: str, name: str, found: dict[str, Any], does: Behaviour | None, uses: Uses
) -> property:
    def get(self: Any) -> Any:
        uses.add((owner, name))
        if does is not None:
            return does(self)
        if not hasattr(self, f"x_{name}"):
            raise NotImplementedError(f"{owner}.{name}: the stand-in does not know it; see trt_world.py")
        return getattr(self, f"x_{name}")

    def put(self: Any, value: Any) -> None:
        uses.add((owner, name))
        if found["property"] is not None and not fits(module, value, found["property"]):
            raise TypeError(f"{owner}.{name} = {value!r}: expected {found['property']}")
        if does is not None:
            does(self, value)
        else:
            object.__setattr__(self, f"x_{name}", value)

    return property(get, put if found["settable"] else None)


def _method(
    module: types.ModuleType,
    owner: str,
    name: str,
    signatures: list[dict[str, Any]],
    does: Behaviour | None,
    uses: Uses,
) -> Behaviour:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        uses.add((owner, name))
        bound = next((b for s in signatures if (b := bind(module, s["parameters"], args, kwargs)) is not None), None)
        if bound is None:
            supported = "; ".join(str(s["parameters"]) for s in signatures)
            raise TypeError(
                f"{owner}.{name}{args!r} {kwargs!r}: incompatible function arguments; supported: {supported}"
            )
        if does is None:
            if name == "__init__":
                return None
            raise NotImplementedError(f"{owner}.{name}: the stand-in does not know it; see trt_world.py")
        return does(self, *bound)

    method.__name__ = name
    return method


def bind(
    module: types.ModuleType, parameters: list[list[Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any] | None:
    """The arguments in the order of the parameters, without those left to their defaults; None if they do not fit."""
    names = [name for name, _, _ in parameters]
    if len(args) > len(names) or not set(kwargs) <= set(names[len(args) :]):
        return None
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    for name, kind, optional in parameters:
        if name not in given and not optional:
            return None
        if name in given and not fits(module, given[name], kind):
            return None
    return [given[name] for name in names if name in given]


def fits(module: types.ModuleType, value: Any, kind: str) -> bool:
    """Would pybind11 take the value for this type? Not known: an error, so that nothing passes by chance."""
    plain: dict[str, Any] = {
        "str": str, "bool": bool, "float": (int, float), "tuple": tuple, "list": list,
        "typing_extensions.Buffer": (bytes, bytearray, memoryview),
    }  # fmt: skip
    if kind in plain:
        return isinstance(value, plain[kind])
    if kind in ("int", "typing.SupportsInt"):
        return hasattr(value, "__index__") and not isinstance(value, bool)
    if kind in ("Dims", "collections.abc.Sequence[typing.SupportsInt]"):
        return isinstance(value, collections.abc.Sequence) and all(hasattr(side, "__index__") for side in value)
    found: Any = module
    for part in kind.rpartition("::")[2].split("."):
        found = getattr(found, part, None)
    if found is None:
        # A class of the real module that this project does not use, so none of our values is one.
        return False
    return isinstance(value, found)
