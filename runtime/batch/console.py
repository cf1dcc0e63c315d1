"""Messages, tables and progress bars of the commands: the one place that prints.

Names of files, metadata and messages of servers come from strangers, and a terminal obeys control characters in them:
they move the cursor, rename the window, or make a second line that looks like one of ours. `printable` shows them
instead, and everything that is printed goes through it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Timer
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment

Item = TypeVar("Item")

PATIENCE_S = 2.0
"""A run that takes less shows no bar."""


_verbosity: ContextVar[int] = ContextVar("verbosity", default=0)

_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f"  # control characters: ESC, BEL, line feed, CSI
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # change the direction of what follows
    "\\u2028\\u2029"  # line and paragraph
    "\\ud800-\\udfff]"  # bytes of a file name that are no UTF-8
)
_UNSAFE_IN_BLOCK = re.compile(_UNSAFE.pattern.replace("\\x00-\\x1f", "\\x00-\\x09\\x0b-\\x1f"))
"""The same without the line feed."""


def printable(text: str) -> str:
    """A text as one line that a terminal shows and does not obey; what it would obey is written as in Python.

    Example:
        >>> print(printable("cat.jpg\\nfastsam: done\\x1b[2J"))
        cat.jpg\\nfastsam: done\\x1b[2J
    """
    return _UNSAFE.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


@contextmanager
def shown(verbosity: int) -> Iterator[None]:
    """What commands print in a block: errors only (-1), messages (0), or more of them (1).

    Example:
        >>> with shown(1):
        ...     is_verbose()
        True
    """
    token = _verbosity.set(verbosity)
    logger = logging.getLogger("fastsam_deploy")
    level = logger.level
    if verbosity > 0:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        _verbosity.reset(token)


def is_verbose() -> bool:
    """Whether more is printed than usual.

    Example:
        >>> is_verbose()
        False
    """
    return _verbosity.get() > 0


def open_console(*, stderr: bool = False) -> Console:
    """The console of a command, on standard output or standard error. All that it renders is printable. With -q it is
    quiet.

    Example:
        >>> open_console().print("a\\x1b[31mb")
        a\\x1b[31mb
    """
    from rich.console import Console
    from rich.segment import Segment

    class PrintableConsole(Console):
        def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
            for segment in super().render(*arguments, **options):
                text = segment.text if segment.control else _UNSAFE_IN_BLOCK.sub(_shown, segment.text)
                yield segment if text is segment.text else Segment(text, segment.style)

    return PrintableConsole(stderr=stderr, quiet=_verbosity.get() < 0, markup=False, emoji=False)


def say(console: Console, text: str, *, error: bool = False) -> None:
    """Print one line as it is, but for control characters, without colours, markup or added line breaks.

    Args:
        console: where.
        text: the line.
        error: print it also on a console that is quiet.

    Example:
        >>> from rich.console import Console
        >>> say(Console(width=20), "[not markup] a line that is longer than the console is wide")
        [not markup] a line that is longer than the console is wide
    """
    if error and console.quiet:
        print(printable(text), file=sys.stderr)  # noqa: T201
    console.print(printable(text), markup=False, highlight=False, emoji=False, soft_wrap=True)


def complain(name: str, message: str) -> None:
    """Print the error of a command in one line on standard error.

    Args:
        name: of the command.
        message: its white space becomes single spaces.

    Example:
        >>> complain("fastsam", "no such file")  # on standard error: fastsam: no such file
    """
    print(f"{name}: {printable(' '.join(message.split()))}", file=sys.stderr)  # noqa: T201


@contextmanager
def warnings_shown(prefix: str) -> Iterator[None]:
    """Print warnings of this package on standard error, in the same form as the messages of the command.

    With -v also what is logged as information, with -q nothing.

    Args:
        prefix: name of the command.

    Example:
        >>> with warnings_shown("fastsam"):  # doctest: +SKIP
        ...     load_image("stack.tif")  # fastsam: stack.tif: holds 3 images, the first was read; …
    """
    handler = _WarningLines(logging.INFO)
    handler.setFormatter(logging.Formatter(f"{prefix}: %(message)s"))
    logger = logging.getLogger("fastsam_deploy")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _WarningLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING or is_verbose():
            say(open_console(stderr=True), self.format(record))


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
    with progress_bar(console, count, label=label, shown=count != 1) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def progress_bar(
    console: Console, total: int | None, *, label: str = "", shown: bool = True
) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal, after `PATIENCE_S` seconds.

    Args:
        console: shows the bar, if it is a terminal.
        total: number of items; None: unknown.
        label: text before the bar.
        shown: False: there is none.

    Yields:
        A function that takes the number of further items.

    Example:
        >>> from rich.console import Console
        >>> with progress_bar(Console(), 3) as advance:
        ...     advance(3)
    """
    if not shown or not console.is_terminal or console.quiet:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    text = [TextColumn(label)] if label else []
    bar = Progress(*text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(label, total=total)
    timer = Timer(PATIENCE_S, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda count: bar.advance(task, count)
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()
