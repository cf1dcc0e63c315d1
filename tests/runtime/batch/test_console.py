"""A bar is for people who wait, and lines are printed as they are."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from fastsam_deploy.runtime.batch import console as batch_console
from fastsam_deploy.runtime.batch.console import say, with_progress


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=60), stream


def slowly(count: int) -> Iterator[int]:
    for i in range(count):
        time.sleep(0.05)
        yield i


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("total", [None, 0, 4])
def test_a_progress_bar_is_for_terminals_only(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, total: int | None
) -> None:
    monkeypatch.setattr(batch_console, "PATIENCE_S", 0.0)
    shown, stream = console(terminal=terminal)
    assert list(with_progress(slowly(4), shown, label="frames", total=total)) == list(range(4))
    text = stream.getvalue()
    assert bool(text) is terminal
    if terminal:
        assert "frames" in text and (f"4/{total}" if total else "4/?") in text


def test_it_counts_what_has_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_console, "PATIENCE_S", 0.0)
    shown, stream = console(terminal=True)
    for _ in with_progress(range(3), shown):
        time.sleep(0.05)
    assert "3/3" in stream.getvalue()


def test_who_does_not_wait_sees_none() -> None:
    shown, stream = console(terminal=True)
    start = time.perf_counter()
    assert list(with_progress("abc", shown)) == ["a", "b", "c"]
    assert time.perf_counter() - start < batch_console.PATIENCE_S
    assert stream.getvalue() == ""


def test_it_ends_with_an_error_and_with_a_loop_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_console, "PATIENCE_S", 0.0)
    shown, stream = console(terminal=True)
    items = with_progress(slowly(9), shown)
    assert [next(items), next(items), next(items)] == [0, 1, 2]
    items.close()
    ended = stream.getvalue()
    time.sleep(0.2)
    assert stream.getvalue() == ended, "nothing draws on"
    assert ended.rstrip().endswith(("\x1b[?25h", "\x1b[2K")) or "\x1b[?25h" in ended, "the cursor is back"


def test_a_line_is_printed_as_it_is() -> None:
    shown, stream = console(terminal=True)
    say(shown, "a/[red]b[/red].jpg: 12 segments, " + "x" * 80)
    assert stream.getvalue() == "a/[red]b[/red].jpg: 12 segments, " + "x" * 80 + "\n"
