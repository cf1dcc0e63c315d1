"""The folder of a tuning run: figures, table, chart, and pictures of the worst masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..documents import dump
from ..errors import FastSamError, pip_install
from ..measure.report import environment
from ..system.atomic import os_errors_as, write_atomically
from ..tuned import Machine
from .choice import Measured, frontier_of
from .loads import ServedLoad

if TYPE_CHECKING:
    from rich.table import Table

_LOAD_COLUMNS = ("instances", "threads of each", "images in a batch", "images/s", "ms", "")
_COLUMNS = ("way", "ms", "p95", "× reference", "mask IoU", "recall", "")


@dataclass(frozen=True)
class TuningReport:
    """What was measured, and what follows.

    Attributes:
        measured: of every way, the reference first.
        best: the way that was chosen; None: none meets the limits.
        command: that repeats it.
        images: number of images.
        machine: on which it was measured.
        served: how the best way serves many requests; empty: not measured.
        load: that was chosen of these.

    Example:
        >>> TuningReport([], None, "fastsam tune m.onnx", 8, Machine("a processor", 2)).rows()
        []
    """

    measured: Sequence[Measured]
    best: Measured | None
    command: str
    images: int
    machine: Machine
    served: Sequence[ServedLoad] = ()
    load: ServedLoad | None = None

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the table, a row for each way."""
        frontier = {id(each) for each in frontier_of(self.measured)}
        reference = self.measured[0].latency_ms if self.measured else None
        return [
            (
                each.way.name,
                _number(each.latency_ms, ".1f"),
                _number(each.p95_ms, ".1f"),
                _number(reference / each.latency_ms if reference and each.latency_ms else None, ".2f"),
                f"{each.mean_iou:.4f}",
                f"{each.recall:.3f}",
                _remark(each, on_frontier=id(each) in frontier, is_best=each is self.best),
            )
            for each in self.measured
        ]

    def table(self) -> Table:
        """The table for a terminal."""
        from rich.table import Table

        caption = f"Median of an image, file to segments: {self.images} images, ways in turn, on {self.machine}."
        table = Table(caption=caption, caption_justify="left")
        for i, name in enumerate(_COLUMNS):
            table.add_column(name, justify="left" if i in (0, len(_COLUMNS) - 1) else "right")
        for row in self.rows():
            table.add_row(*row, style="bold" if row[-1].startswith("chosen") else None)
        return table

    def load_rows(self) -> list[tuple[str, ...]]:
        """Cells of the table of loads."""
        return [
            (
                *map(str, (each.load.instances, each.load.threads, each.load.batch)),
                f"{each.images_per_second:.2f}",
                f"{each.latency_ms:.1f}",
                "chosen" if each is self.load else "",
            )
            for each in self.served
        ]

    def loads_table(self) -> Table:
        """The table of loads for a terminal."""
        from rich.table import Table

        table = Table(caption="All instances busy; the time is that of a call.", caption_justify="left")
        for name in _LOAD_COLUMNS:
            table.add_column(name, justify="right" if name else "left")
        for row in self.load_rows():
            table.add_row(*row, style="bold" if row[-1] else None)
        return table

    def markdown(self, chart: str | None) -> str:
        """The report as Markdown."""
        head = f"| {' | '.join(_COLUMNS)} |\n|---|{'---:|' * (len(_COLUMNS) - 2)}---|\n"
        rows = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in self.rows())
        picture = f"![Speed against masks]({chart})\n\n" if chart else ""
        return (
            f"# Tuning on {self.machine}\n\n{head}{rows}\nMilliseconds for an image, from its file to its segments; "
            f"median and 95th percentile over {self.images} images. Mask IoU and recall (at IoU 0.75) are those with "
            f"the first row. *Frontier*: none is both faster and nearer to the first row.\n\n{picture}{self._loads()}"
            f"```bash\n{self.command}\n```\n"
        )

    def _loads(self) -> str:
        """The table of loads as Markdown."""
        if not self.served:
            return ""
        head = f"## Many requests at once\n\n| {' | '.join(_LOAD_COLUMNS)} |\n|{'---:|' * 5}---|\n"
        return head + "".join(f"| {' | '.join(row)} |\n" for row in self.load_rows()) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        loads = {"loads": [each.to_json() for each in self.served]} if self.served else {}
        chosen = {} if self.load is None else {"load": self.load.to_json()}
        return {
            "command": self.command,
            "environment": environment(),
            "images": self.images,
            "chosen": None if self.best is None else self.best.way.name,
            "frontier": [each.way.name for each in frontier_of(self.measured)],
            "ways": [each.to_json() for each in self.measured],
            **loads,
            **chosen,
        }

    def write(self, folder: Path) -> str | None:
        """Write tune.json, tune.md, and frontier.png if matplotlib is installed.

        Returns:
            Why there is no chart; None if there is one.

        Raises:
            FastSamError: a file cannot be written.
        """
        with os_errors_as(FastSamError, folder):
            folder.mkdir(parents=True, exist_ok=True)
        chart, reason = _chart(self.measured, self.best)
        if chart is not None:
            write_atomically(folder / "frontier.png", chart)
        name = None if chart is None else "frontier.png"
        write_atomically(folder / "tune.md", self.markdown(name).encode())
        write_atomically(folder / "tune.json", (dump(self.to_json(), indent=2) + "\n").encode())
        return reason


def _remark(each: Measured, *, on_frontier: bool, is_best: bool) -> str:
    if each.failures:
        return "; ".join(each.failures)
    return ", ".join(word for word, holds in (("chosen", is_best), ("frontier", on_frontier)) if holds)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _chart(measured: Sequence[Measured], best: Measured | None) -> tuple[bytes | None, str | None]:
    """Speed against masks as PNG, or why there is none."""
    timed = [each for each in measured if each.latency_ms is not None]
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        return None, f"no chart: matplotlib is not installed; run: {pip_install('tune')}"
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    frontier = frontier_of(measured)
    axes.plot([e.latency_ms or 0 for e in frontier], [e.mean_iou for e in frontier], color="0.7", zorder=1)
    for each in timed:
        color = "tab:green" if each is best else "tab:blue" if each.passed else "tab:red"
        axes.scatter(each.latency_ms or 0, each.mean_iou, color=color, zorder=2)
    for i, each in enumerate(frontier):  # the names of all others are in the table
        above = 8 if i % 2 else -14
        place = ((each.latency_ms or 0, each.mean_iou), (0, above))
        axes.annotate(each.way.name, *place, textcoords="offset points", fontsize=8, ha="center")
    axes.set_xlabel("milliseconds for an image (median)")
    axes.set_ylabel("mean mask IoU with the reference")
    axes.margins(x=0.25, y=0.2)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue(), None
