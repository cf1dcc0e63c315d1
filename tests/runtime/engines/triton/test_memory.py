"""Pieces of shared memory: lent, given back, and never left behind, whatever fails."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.utils.shared_memory", reason="needs tritonclient")

from fastsam_deploy.runtime.engines.triton import memory
from fastsam_deploy.runtime.engines.triton.memory import SharedRegions

VALUES = np.arange(1000, dtype=np.float32)


def pieces() -> set[Path]:
    """Those of this process; servers that other tests have started use its number, too, and a port behind it."""
    mine = re.compile(rf"fastsam_{os.getpid()}_[0-9a-f]{{32}}")
    return {path for path in Path("/dev/shm").iterdir() if mine.fullmatch(path.name)}


@pytest.fixture
def known() -> set[str]:
    """Names of the pieces that the server knows."""
    return set()


@pytest.fixture
def regions(known: set[str]) -> Iterator[SharedRegions]:
    before = pieces()
    made = SharedRegions(lambda name, *_: known.add(name), known.discard, required=False)
    yield made
    made.close()
    assert pieces() == before and not known


def failing(error: BaseException) -> Callable[..., None]:
    def fail(*_: Any) -> None:
        raise error

    return fail


def test_a_piece_is_used_again(regions: SharedRegions, known: set[str]) -> None:
    first = regions.lend(VALUES)
    assert first is not None and known == {first.name}
    first.give_back()
    assert regions.lend(VALUES[:10]) is first and len(pieces()) == 1


def test_a_copy_that_fails_gives_its_piece_back(regions: SharedRegions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.shm, "set_shared_memory_region", failing(RuntimeError("no copy")))
    for _ in range(5):
        with pytest.raises(RuntimeError, match="no copy"):
            regions.lend(VALUES)
    assert len(pieces()) == 1, "one piece, taken five times"


def test_a_server_that_may_know_a_piece_is_told_to_forget_it(regions: SharedRegions, known: set[str]) -> None:
    """Its answer did not come: to register the same name once more would be refused."""

    def slow(name: str, *_: Any) -> None:
        known.add(name)
        raise TimeoutError

    regions._register = slow
    with pytest.raises(TimeoutError):
        regions.lend(VALUES)
    assert not known and not pieces()
    regions._register = lambda name, *_: known.add(name)
    assert regions.lend(VALUES) is not None


def test_a_server_that_takes_none_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def register(*arguments: Any) -> None:
        asked.append(arguments)
        raise memory.InferenceServerException("not here")

    for required in (False, True):
        regions = SharedRegions(register, failing(AssertionError("it knows none")), required=required)
        if required:
            with pytest.raises(memory.ServerError, match=r"does not take shared memory .*not here"):
                regions.lend(VALUES)
        else:
            assert regions.lend(VALUES) is None and regions.lend(VALUES) is None
        regions.close()
    assert len(asked) == 2 and not pieces()


def test_nothing_is_made_after_close_and_one_failure_keeps_no_other(
    regions: SharedRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = [regions.lend(VALUES) for _ in range(3)]
    assert len({region.name for region in lent if region}) == 3
    real, fails = memory.shm.destroy_shared_memory_region, [True]

    def destroy(handle: Any) -> None:
        real(handle)
        if fails.pop() if fails else False:
            raise RuntimeError("gone already")

    monkeypatch.setattr(memory.shm, "destroy_shared_memory_region", destroy)
    with pytest.raises(RuntimeError, match="gone already"):
        regions.close()
    assert not pieces()
    assert regions.lend(VALUES) is None and not pieces()
