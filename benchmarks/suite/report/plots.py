"""Plots of the report, PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsam_deploy.runtime.system.atomic import write_atomically

from .readings import Results, network_floor_ms, rows_of, threads_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OURS, _THEIRS = "#1f6fb2", "#c8553d"
_STAGE_COLORS = {"before": "#9aa5b1", "network": "#e0a458", "after": "#1f6fb2"}
_ENGINE_COLORS = {
    "ours_onnxruntime": "#1f6fb2",
    "ours_openvino": "#7fb2dd",
    "ultralytics": "#c8553d",
    "ultralytics_onnx": "#dd9280",
    "ultralytics_openvino": "#ecc4ba",
}


def _color(row: dict[str, Any]) -> str:
    other = _OURS if row["contender"].startswith("ours") else _THEIRS
    return _ENGINE_COLORS.get(row["contender"], other)


def draw(results: Results, folder: Path) -> list[Path]:
    """The plots that the results have figures for; their paths."""
    import matplotlib as mpl

    mpl.use("Agg")  # no window, whatever the machine has
    mpl.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 120})
    folder.mkdir(parents=True, exist_ok=True)
    makers = {
        "end_to_end": ("end_to_end", _end_to_end),
        "networks": ("network", _networks),
        "prompts": ("prompts", _prompts),
        "memory": ("memory", _memory),
        "size": ("scaling", _size),
        "masks": ("scaling", _masks),
    }
    made = []
    for name, (part, maker) in makers.items():
        if results.get(part, {"rows": []})["rows"]:
            path = folder / f"{name}.png"
            _save(maker(results), path)
            made.append(path)
    return made


def _figure(width: float, height: float, columns: int = 1, **more: Any) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained", **more)
    return figure, list(axes[0])


def _save(figure: Figure, path: Path) -> None:
    from matplotlib import pyplot

    stream = io.BytesIO()
    # Without the software's name in it, equal plots are equal files.
    figure.savefig(stream, format="png", metadata={"Software": None})
    pyplot.close(figure)
    write_atomically(path, stream.getvalue())


def _end_to_end(results: Results) -> Figure:
    """Stages of every contender on the first photograph of each size."""
    threads = threads_of(results)
    by_size: dict[float, list[dict[str, Any]]] = {}
    for row in rows_of(results, "end_to_end", threads=threads, batch=1):
        rows = by_size.setdefault(row["case"]["megapixels"], [])
        if not rows or rows[0]["case"]["image"] == row["case"]["image"]:
            rows.append(row)
    figure, axes = _figure(7 * len(by_size), 4, len(by_size), sharey=True)
    for axis, rows in zip(axes, by_size.values(), strict=True):
        names = [row["title"].replace("¹", "") for row in rows]
        left = [0.0] * len(rows)
        for stage, color in _STAGE_COLORS.items():
            widths = [row["ms"][stage]["median"] for row in rows]
            axis.barh(names, widths, left=left, color=color, label=stage if axis is axes[0] else None)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for name, end in zip(names, left, strict=True):
            axis.annotate(f" {end:.0f}", (end, name), va="center")
        axis.margins(x=0.12)
        axis.set_xlabel("milliseconds")
        axis.set_title(f"{rows[0]['case']['image']}, {rows[0]['masks']} masks, {threads} threads", loc="left")
    axes[0].invert_yaxis()  # of all, as they share it
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _networks(results: Results) -> Figure:
    """Each size by itself, as they differ by a factor of thirty; the floor is a line."""
    threads = threads_of(results)
    sizes = list(dict.fromkeys(row["case"]["size"] for row in results["network"]["rows"]))
    figure, axes = _figure(4.6 * len(sizes), 2.8, len(sizes))
    for axis, size in zip(axes, sizes, strict=True):
        rows = list(rows_of(results, "network", size=size, threads=threads))
        names = [row["title"] for row in rows]
        values = [row["ms"]["network"]["median"] for row in rows]
        axis.barh(names, values, color=[_color(row) for row in rows])
        for name, value in zip(names, values, strict=True):
            axis.annotate(f" {value:.0f}", (value, name), va="center")
        floor = network_floor_ms(results, size, threads)
        if floor is not None:
            axis.axvline(floor, color="black", linewidth=1, linestyle="--", label="floor of FP32")
            axis.legend(loc="upper right", bbox_to_anchor=(1, 1.18), frameon=False, fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.set_xlabel("milliseconds")
        axis.set_title(f"size {size}, {threads} threads", loc="left")
    return figure


def _prompts(results: Results) -> Figure:
    figure, (axis,) = _figure(6, 3.4)
    rows = results["prompts"]["rows"]
    for name in dict.fromkeys(row["contender"] for row in rows):
        own = [row for row in rows if row["contender"] == name]
        counts = [row["case"]["count"] for row in own]
        times = [row["ms"]["total"]["median"] for row in own]
        axis.plot(counts, times, "o-", color=_color(own[0]), label=own[0]["title"])
    axis.set_xscale("log")
    counts = sorted({row["case"]["count"] for row in rows})
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.minorticks_off()
    axis.set_ylim(0)
    axis.set_xlabel("points")
    axis.set_ylabel("milliseconds, image to answer")
    axis.legend(frameon=False, loc="center right")
    return figure


def _memory(results: Results) -> Figure:
    rows = results["memory"]["rows"]
    figure, (axis,) = _figure(8.5, 0.34 * len(rows) + 0.8)
    names = [
        f"{row['case']['megapixels']:g} MP, {row['masks']} masks ({row['case']['image']}) – {row['title']}"
        for row in rows
    ]
    values = [row["over_engine_mb"] for row in rows]
    places = range(len(rows))
    axis.barh(places, values, color=[_OURS if row["contender"].startswith("ours") else _THEIRS for row in rows])
    axis.set_yticks(places, names, fontsize=8)
    axis.invert_yaxis()
    for place, value in zip(places, values, strict=True):
        axis.annotate(f" {value:.0f}", (value, place), va="center", fontsize=8)
    axis.margins(x=0.1)
    axis.set_xlabel("MB above the engine's memory, at the peak")
    return figure


def _size(results: Results) -> Figure:
    return _scaling(results, "size", "size of the image, MP", lambda row: row["case"]["megapixels"], log=True)


def _masks(results: Results) -> Figure:
    return _scaling(results, "masks", "masks", lambda row: row["masks"], log=False)


def _scaling(results: Results, against: str, label: str, of: Any, *, log: bool) -> Figure:
    from matplotlib import ticker

    figure, (axis,) = _figure(6, 3.6)
    rows = list(rows_of(results, "scaling", against=against))
    for name, color in (("ours_onnxruntime", _OURS), ("ultralytics", _THEIRS)):
        own = [row for row in rows if row["contender"] == name]
        for stage, style in (("total", "o-"), ("around", "o--")):
            if own:
                title = f"{own[0]['title']}, {'end to end' if stage == 'total' else 'around the network'}"
                times = [row["ms"][stage]["median"] for row in own]
                axis.plot([of(row) for row in own], times, style, color=color, label=title, markersize=4)
    ticks = sorted({of(row) for row in rows})
    # Masks begin at none.
    axis.set_xscale("log" if log else "symlog", **({} if log else {"linthresh": 1}))
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set_yscale("log")
    # 200 and not 2 × 10², between the powers of ten as well where there is room for few of those.
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(ticker.LogFormatter(minor_thresholds=(2, 1)))
    axis.set_xlabel(label)
    axis.set_ylabel("milliseconds")
    axis.legend(frameon=False, fontsize=8)
    return figure
