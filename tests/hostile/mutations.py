"""Damage to bytes: what disks, networks and strangers do to files."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

_NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    2**24,
    2**30,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_HEADER = 64
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, 2**31, 2**63, 2**64, 10**30, -(2**63), float("nan"), float("inf")),
    *("", "x", "1", "\0", "\ud800", "a" * 3000, "\x1b[31m", "é" * 20, "1e5", "nan"),
    *([], {}, [[]], [[1, 2]], {"a": 1}, [None], [0] * 100, [1e308] * 4, [[[[[[[[1]]]]]]]]),
)


def damaged(seeds: Sequence[bytes], chance: random.Random, *, text: bool = False) -> bytes:
    """One of the seeds with one to eight changes.

    Args:
        seeds: inputs that are in order.
        chance: says what is changed; the same numbers give the same bytes.
        text: half of the changes replace values of JSON.
    """
    content = chance.choice(seeds)
    if text and chance.random() < 0.6:
        content = _damaged_json(content, chance)
        if chance.random() < 0.8:
            return content
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        content = chance.choice(_CHANGES)(content, seeds, chance)
    return content


def _flip(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    return _with(content, chance.randrange(max(1, len(content))), lambda byte: byte ^ (1 << chance.randrange(8)))


def _flip_in_header(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    place = chance.randrange(max(1, min(len(content), _HEADER)))
    return _with(content, place, lambda byte: byte ^ (1 << chance.randrange(8)))


def _byte(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    return _with(content, chance.randrange(max(1, len(content))), lambda _: chance.choice((0, 1, 0x7F, 0x80, 0xFF)))


def _number(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """A number of 2, 4 or 8 bytes, in either order, half of the time near the beginning."""
    size = chance.choice((2, 4, 4, 8))
    value = (chance.choice(_NUMBERS) % (1 << 8 * size)).to_bytes(size, chance.choice(("little", "big")))
    most = len(content) if chance.random() < 0.5 else min(len(content), 2 * _HEADER)
    place = chance.randrange(max(1, most))
    return content[:place] + value + content[place + size :]


def _cut(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _remove(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    return content[:start] + content[start + chance.choice((1, 2, 4, 16, 64)) :]


def _repeat(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    part = content[start : start + chance.choice((1, 4, 16, 256))]
    return content[:start] + part * chance.choice((2, 3, 100)) + content[start:]


def _insert(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.randbytes(chance.choice((1, 2, 4, 32))) + content[place:]


def _splice(content: bytes, seeds: Sequence[bytes], chance: random.Random) -> bytes:
    other = chance.choice(seeds)
    return content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]


def _zero(content: bytes, _: Sequence[bytes], chance: random.Random) -> bytes:
    """A block of zeros, as after a power cut."""
    start = chance.randrange(len(content) + 1)
    size = chance.choice((4, 64, 512, 4096))
    return content[:start] + bytes(min(size, len(content) - start)) + content[start + size :]


_CHANGES: tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...] = (
    *(_flip, _flip, _flip_in_header, _flip_in_header, _byte, _number, _number, _number),
    *(_cut, _remove, _repeat, _insert, _splice, _zero),
)


def _with(content: bytes, place: int, change: Callable[[int], int]) -> bytes:
    if not content:
        return content
    return content[:place] + bytes([change(content[place])]) + content[place + 1 :]


def _damaged_json(content: bytes, chance: random.Random) -> bytes:
    """JSON in which a value is another one, a key is missing, or a list is longer. Other texts stay as they are."""
    try:
        document = json.loads(content)
    except ValueError:
        return content
    if isinstance(document, dict | list) and chance.random() < 0.02:
        return b"[" * chance.choice((50, 1000, 100_000)) + content
    for _ in range(chance.choice((1, 1, 2, 4))):
        document = _changed(document, chance)
    return json.dumps(document).encode("utf-8", "surrogatepass")


def _changed(value: Any, chance: random.Random) -> Any:
    """The value with a change at some depth."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.15:
        return chance.choice(_VALUES)
    if isinstance(value, dict):
        key = chance.choice(list(value))
        if chance.random() < 0.1:
            return {name: part for name, part in value.items() if name != key}
        if chance.random() < 0.05:
            return {**value, chance.choice(("x", "", "__class__", "points", "size")): chance.choice(_VALUES)}
        return {**value, key: _changed(value[key], chance)}
    place = chance.randrange(len(value))
    if chance.random() < 0.1:
        return value[:place] + [value[place]] * chance.choice((0, 2, 50)) + value[place + 1 :]
    return [*value[:place], _changed(value[place], chance), *value[place + 1 :]]
