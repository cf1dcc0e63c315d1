"""The one reader and the one writer of JSON, for texts that may come from anybody.

`parse` bounds the size and the depth of a text, and refuses what JSON does not have (NaN, infinity). `Fields` reads the
values of an object, each with its type and range. Both raise ValueError; callers add the file and what to do.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from .errors import FastSamError

MAX_TEXT_BYTES = 1 << 28
"""A file of 300 segments has about 1 MB. Parsing takes up to 30 times the size of the text."""

MAX_DEPTH = 32
"""Lists and objects inside one another. What this project writes has 6 at most."""

MAX_QUESTION_BYTES = 1 << 24
"""A question to a server: 4096 points take 60 KB."""

_LONGEST_QUOTE = 60
_LARGEST = 2.0**1000


def parse(text: bytes | str, most_bytes: int = MAX_TEXT_BYTES) -> Any:
    """The value of a JSON text.

    Args:
        text: UTF-8, or text.
        most_bytes: longest text that is read, bytes or characters.

    Raises:
        ValueError: it is too long, not JSON, nested more than MAX_DEPTH deep, or holds a number that is not finite.

    Example:
        >>> parse('{"points": [[1, 2]]}')
        {'points': [[1, 2]]}
        >>> parse("[NaN]")
        Traceback (most recent call last):
        ValueError: NaN is no number of JSON
    """
    if len(text) > most_bytes:
        raise ValueError(f"the text has {len(text):,} bytes, the limit is {most_bytes:,}")
    if not isinstance(text, str):
        text = bytes(text).decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    _check_depth(value)
    return value


def dump(value: Any, **style: Any) -> str:
    """The JSON text of a value.

    Args:
        value: of plain types.
        style: of `json.dumps`, such as `indent`.

    Raises:
        FastSamError: it holds a number that is not finite, which JSON cannot write.

    Example:
        >>> dump({"score": 0.5})
        '{"score": 0.5}'
    """
    try:
        return json.dumps(value, allow_nan=False, **style)
    except ValueError as error:
        raise FastSamError(
            f"cannot be written as JSON ({error}); expected finite numbers, not NaN or infinity"
        ) from None


class Fields:
    """An object of JSON whose values are checked when they are read. Unknown keys are left to the caller.

    Example:
        >>> fields = Fields({"height": 4, "name": "cat"}, "image")
        >>> fields.whole("height", 1, 10), fields.text("name")
        (4, 'cat')
        >>> fields.whole("name", 1, 10)
        Traceback (most recent call last):
        ValueError: name of image is 'cat', expected a whole number from 1 to 10
    """

    def __init__(self, value: Any, where: str) -> None:
        """
        Args:
            value: what `parse` gave.
            where: what messages call the object.

        Raises:
            ValueError: it is no object.
        """
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is {quoted(value)}, expected an object")
        self._values, self._where = value, where

    def __contains__(self, name: str) -> bool:
        """Whether there is a value that is not null."""
        return self._values.get(name) is not None

    def whole(self, name: str, least: int, most: int) -> int:
        """A whole number in a range, both ends included."""
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._refuse(name, value, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, least: float = -_LARGEST, most: float = _LARGEST) -> float:
        """A finite number in a range, both ends included."""
        value = self.value(name)
        if not _is_number(value) or not least <= value <= most:
            wanted = "a finite number" if most == _LARGEST else f"a number from {least:g} to {most:g}"
            self._refuse(name, value, wanted)
        return float(value)

    def numbers(self, name: str, count: int) -> list[float]:
        """A list of so many finite numbers."""
        value = self.value(name)
        if not isinstance(value, list) or len(value) != count or not all(map(_is_number, value)):
            self._refuse(name, value, f"a list of {count} finite numbers")
        return [float(number) for number in value]

    def items(self, name: str, most: int) -> list[Any]:
        """A list."""
        value = self.value(name)
        if not isinstance(value, list) or len(value) > most:
            self._refuse(name, value, f"a list of at most {most:,}")
        return value

    def text(self, name: str) -> str:
        """A text that can be written as UTF-8."""
        value = self.value(name)
        if not is_text(value):
            self._refuse(name, value, "a text")
        return str(value)

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        """A list of texts."""
        values = self.items(name, most)
        for value in values:
            if not is_text(value):
                self._refuse(name, value, "texts")
        return tuple(values)

    def fields(self, name: str) -> Fields:
        """An object inside this one."""
        return Fields(self.value(name), f"{name} of {self._where}")

    def value(self, name: str) -> Any:
        """The value as it is."""
        if name not in self._values:
            raise ValueError(f"{self._where} has no {name!r}")
        return self._values[name]

    def _refuse(self, name: str, value: Any, wanted: str) -> NoReturn:
        raise ValueError(f"{name} of {self._where} is {quoted(value)}, expected {wanted}")


def quoted(value: Any) -> str:
    """A value for a message, cut after 60 characters. It is not turned into text as a whole, which may be megabytes.

    Example:
        >>> quoted("x" * 10**6)[:12], len(quoted("x" * 10**6))
        ("'xxxxxxxxxxx", 61)
    """
    if isinstance(value, str | bytes | Sequence) and len(value) > _LONGEST_QUOTE:
        value = value[:_LONGEST_QUOTE]
    text = f"a dict of {len(value)}" if isinstance(value, Mapping) and len(value) > _LONGEST_QUOTE else repr(value)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[:_LONGEST_QUOTE]}…"


def is_text(value: Any) -> bool:
    """Whether a value is a text that can be written as UTF-8: JSON can hold halves of characters.

    Example:
        >>> is_text("cat"), is_text(5), is_text(chr(0xD800))
        (True, False, False)
    """
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse(text)
    return value


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:_LONGEST_QUOTE]} is no number of JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
