"""The pickle machine: what honest checkpoints hold is read; nothing is run, imported, or blown up."""

from __future__ import annotations

import collections
import datetime
import os
import pickle
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fastsam_deploy.export.direct.records import Refused, Storage, Tensor
from fastsam_deploy.export.direct.unpickle import unpickled

PLAIN = [
    None, True, False, 0, 255, 65_535, -1, 2**31, -(2**40), 1.5, "", "text", "größer", b"bytes", (), (1,), (1, 2, 3),
    (1, 2, 3, 4), [], [1, [2, [3]]], {}, {"a": {1: [None]}, None: 2},
]  # fmt: skip


class Payload:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_is_read_as_python_reads_it(value: Any, protocol: int) -> None:
    if isinstance(value, bytes) and protocol == 2:
        pytest.skip("protocol 2 writes bytes as a call of a codec, which is not made")
    assert unpickled(pickle.dumps(value, protocol)) == value


def test_shared_values_stay_shared_and_sets_become_lists() -> None:
    shared = [1]
    found = unpickled(pickle.dumps({"a": shared, "b": shared, "c": {5}, "d": frozenset({6})}, 4))
    assert found["a"] is found["b"]
    assert (found["c"], found["d"]) == ([5], [6])
    assert unpickled(pickle.dumps(collections.OrderedDict(a=1, b=2), 2)) == {"a": 1, "b": 2}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (os.system, f"{os.name}.system"),
        (eval, "builtins?.*eval"),
        (collections.deque, "collections.deque"),
        (pickle.loads, "pickle"),
        (getattr, "calls getattr"),
    ],
    ids=["system", "eval", "deque", "loads", "getattr"],
)
def test_a_call_is_refused_by_name_and_not_made(value: Any, named: str, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    arguments = ([], "append") if value is getattr else (f"touch {mark}",)
    with pytest.raises(Refused, match=named):
        unpickled(pickle.dumps({"model": Payload(value, *arguments)}, protocol))
    assert not mark.exists()


def test_what_trainers_leave_behind_is_an_empty_record() -> None:
    found = unpickled(pickle.dumps({"date": datetime.datetime(2026, 1, 1), "path": Path("a/b")}, 2))
    assert {name: record.kind.name.split(".")[0] for name, record in found.items()} == {
        "date": "datetime",
        "path": "pathlib",
    }


def deep_key(depth: int) -> bytes:
    """A dict with a tuple of itself, nested, as its key: hashing it takes 2 ** depth steps."""
    return b"\x80\x02}(" + b")" + b"2\x86" * depth + b"K\x01u."


HOSTILE = {
    "a memo entry with a high number": (b"\x80\x02Nr\xff\xff\xff\xff.", None),
    "a byte array of 2 ** 60": (b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".", "damaged|opcode"),
    "a text of 2 ** 60": (b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b".", "damaged"),
    "a key that takes 2 ** 64 steps to hash": (deep_key(64), None),
    "a whole number of a megabyte": (b"\x80\x02\x8b" + struct.pack("<i", 2**20) + b"\x01" * 2**20 + b".", "bits"),
    "a mark that is missing": (b"\x80\x02t.", "damaged"),
    "an empty stack": (b"\x80\x020.", "damaged"),
    "no end": (b"\x80\x02N", "damaged|without an end"),
    "nothing": (b"", "damaged"),
    "a list of a persistent id": (b"\x80\x02]Q.", "outside of the pickle"),
    "an instance of protocol 0": (b"(ios\nsystem\n.", "opcode INST"),
    "an extension": (b"\x80\x02\x82\x01.", "opcode EXT1"),
    "many opcodes": (b"\x80\x02" + b"N0" * 1_100_000 + b".", "opcodes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_costs_neither_time_nor_memory(name: str) -> None:
    data, said = HOSTILE[name]
    tracemalloc.start()
    start = time.monotonic()
    try:
        if said is None:
            unpickled(data)
        else:
            with pytest.raises(Refused, match=said):
                unpickled(data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 * len(data) + 2**20
    assert time.monotonic() - start < 60


def test_one_opcode_cannot_copy_a_list_again_and_again() -> None:
    """A set of a list of 100 000, ten thousand times, would have a thousand million entries."""
    numbers = b"(" + b"K\x01" * 100_000 + b"lq\x00"
    names = b"cbuiltins\nset\nq\x01"
    again = b"h\x01h\x00\x85R" * 10_000
    with pytest.raises(Refused, match="copies more than"):
        unpickled(b"\x80\x02" + numbers + names + again + b".")


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "said"),
    [
        (0, (1000, 1000), (0, 0), "side by side"),
        (0, (3, 4), (4, 2), "side by side"),
        (0, (2, 2), (1, 1), "side by side"),
        (1, (3, 4), (4, 1), "from element 1 on in a storage of 12"),
        (0, (3, 5), (5, 1), "storage of 12 elements"),
        (-1, (3, 4), (4, 1), "whole numbers"),
        (0, (3, -4), (4, 1), "whole numbers"),
        (0, (3, True), (4, 1), "whole numbers"),
        (0, (2**70,), (1,), "whole numbers"),
        (0, (1,) * 20, (1,) * 20, "20 axes"),
        (0, (3, 4), (4,), "2 axes and 1 strides"),
    ],
)
def test_a_tensor_outside_of_its_storage_or_expanded_is_refused(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        Tensor(Storage("0", "HalfStorage", 12), offset, shape, strides)


@pytest.mark.parametrize(
    ("shape", "strides"), [((3, 4), (4, 1)), ((3, 4), (1, 3)), ((1, 12, 1), (99, 1, 0)), ((0, 5), (5, 1)), ((), ())]
)
def test_a_tensor_in_any_order_of_its_axes_is_taken(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    assert Tensor(Storage("0", "HalfStorage", 12), 0, shape, strides).shape == shape
