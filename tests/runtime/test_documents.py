"""The reader of JSON: what is refused, in how little time and memory."""

from __future__ import annotations

import json
import tracemalloc
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsam_deploy.runtime.documents import MAX_DEPTH, Fields, dump, parse, quoted
from fastsam_deploy.runtime.errors import FastSamError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_written_comes_back(value: object):
    assert parse(dump(value).encode()) == value == json.loads(dump(value))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "nul", '{"a": 1,}', "[1] [2]", "NaN", "[Infinity]", "-Infinity", "1e999", "\ufeff{}"),
        *(b"\xff\xfe", b'"\x80"', "[" * 100_000, "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "9" * 5000),
        '{"a":' * 5000 + "1" + "}" * 5000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_what_is_no_json_or_too_deep(text: str | bytes):
    with pytest.raises(ValueError):  # noqa: PT011 - any message
        parse(text)


def test_a_text_that_is_too_long_is_not_parsed():
    text = b"[" + b"1" * 3_000_000 + b"]"
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"3,000,002 bytes, the limit is 1,000"):
        parse(text, 1000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_a_number_that_is_not_finite_is_not_written():
    for value in (float("nan"), float("inf")):
        with pytest.raises(FastSamError, match="expected finite numbers"):
            dump({"score": value})


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [], 11, -1, 10**400], ids=repr)
def test_what_is_no_whole_number_in_the_range(value: object):
    with pytest.raises(ValueError, match="expected a whole number from 0 to 10"):
        Fields({"a": value}, "x").whole("a", 0, 10)


@pytest.mark.parametrize("value", [True, "1", None, [], float("nan"), float("inf"), 10**400], ids=lambda v: repr(v)[:9])
def test_what_is_no_finite_number(value: object):
    fields = Fields({"a": value, "list": [0, value]}, "x")
    with pytest.raises(ValueError, match="expected a finite number"):
        fields.number("a")
    with pytest.raises(ValueError, match="expected a list of 2 finite numbers"):
        fields.numbers("list", 2)


def test_texts_are_whole_characters():
    half = parse('{"a": "\\ud800", "b": ["\\ud800"]}')
    for read in (lambda fields: fields.text("a"), lambda fields: fields.texts("b", 9)):
        with pytest.raises(ValueError, match=r"expected (a text|texts)"):
            read(Fields(half, "x"))


def test_messages_quote_little_of_a_large_value_in_no_time():
    start = thread_time()  # of the processor: other tests run beside it
    for value in ("x" * 10**7, list(range(10**6)), {i: i for i in range(10**5)}, [["y" * 10**6]], 10**4000):
        assert len(quoted(value)) < 100
    assert thread_time() - start < 0.5
