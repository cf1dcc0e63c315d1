"""Messages and progress bars of long runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from threading import Timer
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")

PATIENCE_S = 2.0
"""A run that takes less shows no bar."""


def say(console: Console, text: str) -> None:
    """Print a line as it is, without colours, markup or added line breaks.

    Example:
        >>> from rich.console import Console
        >>> say(Console(width=20), "[not markup] a line that is longer than the console is wide")
        [not markup] a line that is longer than the console is wide
    """
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def warnings_shown(prefix: str) -> Iterator[None]:
    """Print warnings of this package on standard error, in the same form as the messages of the command.

    Args:
        prefix: name of the command.

    Example:
        >>> with warnings_shown("fastsam"):  # doctest: +SKIP
        ...     load_image("stack.tif")  # fastsam: stack.tif: holds 3 images, the first was read; …
    """
    handler = _WarningLines(logging.WARNING)
    handler.setFormatter(logging.Formatter(f"{prefix}: %(message)s"))
    logger = logging.getLogger("fastsam_deploy")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _WarningLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        from rich.console import Console

        say(Console(stderr=True), self.format(record))


def with_progress(
    items: Iterable[Item], console: Console, *, label: str = "", total: int | None = None
) -> Iterator[Item]:
    """Iterate over the items; on a terminal, show a progress bar after `PATIENCE_S` seconds.

    Args:
        items: read one by one.
        console: shows the bar, if it is a terminal.
        label: text before the bar.
        total: number of items, if `items` has no length; None or 0: unknown.

    Example:
        >>> from rich.console import Console
        >>> list(with_progress("abc", Console(), label="letters"))
        ['a', 'b', 'c']
    """
    count = len(items) if isinstance(items, Sized) else total or None
    if not console.is_terminal or count == 1:
        yield from items
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = [TextColumn(label)] if label else []
    bar = Progress(*text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(label, total=count)
    timer = Timer(PATIENCE_S, bar.start)
    timer.daemon = True
    timer.start()
    try:
        for item in items:
            yield item
            bar.advance(task)
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()
