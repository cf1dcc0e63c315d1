"""A pickle as plain data. Nothing in it is imported or called, and work and memory are bounded by its size.

Python's unpickler runs what a pickle names. Restricted, it still imports, and a pickle of 60 bytes can ask it for 64 GB
(an entry of its memo with a high number) or keep it busy for years (a tuple of itself, nested, as a key of a dict). So
this is a machine of its own for the opcodes that torch.save writes. Objects become records (see `records`); the few
functions that torch.save names are replaced by what they would return; all others are refused by name.
"""

from __future__ import annotations

import io
import pickletools
import re
from collections.abc import Callable, Collection
from typing import Any

from .records import Global, Record, Refused, Storage, Tensor

MAX_OPCODES = 2_000_000
"""FastSAM-x needs 0.1 million. Time and memory are proportional to it."""

MAX_BITS = 64
"""Of whole numbers: those of any length take long to be keys of dicts."""

_LONGEST_NAME = 200

_EXPECTED = re.compile(
    r"(builtins|__builtin__)\.(set|frozenset|getattr)"
    r"|collections\.OrderedDict|_codecs\.encode"
    r"|torch\.(Size|device|\w+Storage|(b?float|int|uint)\d+)"
    r"|torch\._utils\._rebuild_(tensor_v2|parameter|parameter_with_state)"
    r"|torch\.(nn\.modules|nn\.parameter|optim)\.(\w+\.)*\w+"
    r"|ultralytics\.(\w+\.)*\w+"
    r"|(pathlib|datetime)\.(\w+\.)*\w+"
    r"|numpy\.(_core|core)\.multiarray\.(scalar|_reconstruct)|numpy\.(dtype|ndarray)|numpy\.dtypes\.\w+"
)
"""What YOLO checkpoints name."""

_LAYERS = re.compile(r"torch\.nn\.modules\.(\w+\.)*\w+|ultralytics\.nn\.(\w+\.)*\w+")
"""Restored by honest checkpoints, never called."""

_SCALARS = (str, int, float, bool, bytes, type(None))

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}

_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}

_MARK = object()


def unpickled(data: bytes) -> Any:
    """Read a pickle.

    Returns:
        Plain Python data, `Record`, `Tensor` and `Global`. Sets become lists. Entries of a dict whose key is not a
        number or text are left out.

    Raises:
        Refused: it is no pickle, names or calls what no YOLO checkpoint needs, or is too long.

    Example:
        >>> import pickle
        >>> unpickled(pickle.dumps({"epoch": 3, "names": ["object"]}))
        {'epoch': 3, 'names': ['object']}
        >>> unpickled(pickle.dumps(print))
        Traceback (most recent call last):
        ...
        fastsam_deploy.export.direct.records.Refused: names builtins.print, which no YOLO segmentation checkpoint needs
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            if count >= MAX_OPCODES:
                raise Refused(f"has more than {MAX_OPCODES:,} pickle opcodes, expected a checkpoint of a network")
            if opcode.name == "STOP":
                return machine.pop()
            machine.run(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise Refused(f"has a damaged pickle ({error!s:.160})") from error
    raise Refused("has a pickle without an end")


class _Machine:
    """The stack and the memo of the pickle machine."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _LITERALS:
            if isinstance(argument, int) and argument.bit_length() > MAX_BITS:
                raise Refused(f"has a whole number of {argument.bit_length()} bits, expected {MAX_BITS} or fewer")
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif (action := _ACTIONS.get(name)) is not None:
            action(self, argument)
        else:
            raise Refused(f"uses the pickle opcode {name}, which torch.save does not write")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("an unexpected mark")
        return value

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a mark is missing")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def top(self, kind: type[Any]) -> Any:
        value = self.stack[-1]
        if not isinstance(value, kind):
            raise ValueError(f"{type(value).__name__} where a {kind.__name__} is expected")
        return value

    def put(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def copy(self, values: Collection[Any]) -> None:
        """Count what is copied: one opcode can copy what a million opcodes have made."""
        self.copied += len(values)
        if self.copied > MAX_OPCODES:
            raise Refused(f"copies more than {MAX_OPCODES:,} values, expected a checkpoint of a network")

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Record):  # a subclass of dict
            return
        items = zip(values[::2], values[1::2], strict=True)
        self.top(dict).update({key: value for key, value in items if isinstance(key, _SCALARS)})

    def name(self, module: object, attribute: object) -> None:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise ValueError("a name that is no text")
        self.stack.append(_named(module, attribute))

    def name_on_stack(self) -> None:
        attribute, module = self.pop(), self.pop()
        self.name(module, attribute)

    def make(self, extra: int) -> None:
        """NEWOBJ: an object without its constructor. Its arguments are not looked at."""
        for _ in range(extra):
            self.pop()
        kind = self.top(Global)
        self.stack[-1] = {} if kind.name == "collections.OrderedDict" else Record(kind)

    def call(self) -> None:
        arguments = self.pop()
        function = self.top(Global)
        if not isinstance(arguments, tuple):
            raise ValueError("arguments that are no tuple")
        if arguments and isinstance(arguments[0], (list, tuple)):
            self.copy(arguments[0])
        self.stack[-1] = _result(function, arguments)

    def build(self) -> None:
        """BUILD: the saved attributes of the object on top."""
        state = self.pop()
        target = self.stack[-1]
        if isinstance(state, tuple) and state:
            state = state[0]
        if isinstance(target, Record) and isinstance(state, dict):
            self.copy(state)
            target.state.update({key: value for key, value in state.items() if isinstance(key, str)})

    def load_storage(self) -> None:
        """BINPERSID: a tensor's storage, ("storage", class, key, place, count)."""
        given = self.pop()
        if not isinstance(given, tuple) or len(given) != 5 or given[0] != "storage" or not isinstance(given[1], Global):
            raise Refused("refers to something outside of the pickle that is no storage of a tensor")
        self.stack.append(Storage(given[2], given[1].short, given[4]))


def _named(module: str, attribute: str) -> Global:
    name = f"{module[:_LONGEST_NAME]}.{attribute[:_LONGEST_NAME]}"
    if not _EXPECTED.fullmatch(name):
        raise Refused(f"names {name:.80}, which no YOLO segmentation checkpoint needs")
    return Global(name)


def _result(function: Global, arguments: tuple[Any, ...]) -> Any:
    """What the call of a function that torch.save names would return."""
    name = function.name
    if name == "torch._utils._rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
            raise Refused("has a tensor without a storage or a shape")
        return Tensor(storage, offset, shape, strides)
    if name.startswith("torch._utils._rebuild_parameter"):
        return arguments[0]
    if name == "torch.Size":
        return tuple(arguments[0])
    if name == "collections.OrderedDict":
        pairs = arguments[0] if arguments else []
        return {key: value for key, value in pairs if isinstance(key, _SCALARS)}
    if function.short in ("set", "frozenset"):
        return list(arguments[0]) if arguments else []
    if function.short == "getattr" and arguments[1:] != (
        "forward",
    ):  # heads before ultralytics 8.1 saved Detect.forward
        raise Refused(f"calls getattr for {', '.join(_shown(each) for each in arguments)}")
    if _LAYERS.fullmatch(name):
        raise Refused(f"calls {function.short}(…) instead of restoring one")
    return Record(function)


def _shown(value: object) -> str:
    """A name or a text. The `repr` of a list could be endless."""
    return value.name if isinstance(value, Global) else f"{value:.40}" if isinstance(value, str) else "something"


_ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MARK": lambda m, _: m.stack.append(_MARK),
    "POP": lambda m, _: m.stack.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_SET": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "FROZENSET": lambda m, _: m.stack.append(m.pop_to_mark()),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "TUPLE1": lambda m, _: m.stack.append((m.pop(),)),
    "TUPLE2": lambda m, _: m.stack.append((m.pop(), m.pop())[::-1]),
    "TUPLE3": lambda m, _: m.stack.append((m.pop(), m.pop(), m.pop())[::-1]),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "ADDITEMS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "PUT": lambda m, index: m.put(index),
    "BINPUT": lambda m, index: m.put(index),
    "LONG_BINPUT": lambda m, index: m.put(index),
    "MEMOIZE": lambda m, _: m.put(None),
    "GET": lambda m, index: m.stack.append(m.memo[index]),
    "BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "LONG_BINGET": lambda m, index: m.stack.append(m.memo[index]),
    "GLOBAL": lambda m, names: m.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name_on_stack(),
    "NEWOBJ": lambda m, _: m.make(1),
    "NEWOBJ_EX": lambda m, _: m.make(2),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.load_storage(),
}
"""Opcode → what it does. With the literals, these are all that pickle writes from protocol 2 on."""
