"""Tables of the report, Markdown; "" where there is nothing to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .readings import Results, network_floor_ms, precision_of, rows_of, sums, threads_of

STAGES = ("before", "network", "after", "total")


def end_to_end_table(results: Results) -> str:
    """One image, most threads, for docs/performance.md too; "" where nothing was measured."""
    threads = threads_of(results)
    rows = list(rows_of(results, "end_to_end", threads=threads, batch=1))
    ratios = _ratios(results, "end_to_end", over="ours_onnxruntime")
    cells = []
    for before, row in zip([None, *rows], rows, strict=False):
        image = row["case"]["image"]
        first = [image, str(row["masks"])] if before is None or before["case"]["image"] != image else ["", ""]
        ratio = ratios.get((row["contender"], image, threads, 1))
        shown = [f"{ratio['around']:.0f}×", f"{ratio['total']:.1f}×"] if ratio else ["", ""]
        title = f"**{_title(row)}**" if row["contender"].startswith("ours") else _title(row)
        cells.append([*first, title, *[_ms(row, stage) for stage in STAGES], *shown])
    head = ["image", "masks", "", "before", "network", "after", "**end to end**", "around", "end to end"]
    return table(head, cells)


def sums_table(results: Results) -> str:
    cells = []
    for size in ("s", "x"):
        for megapixels in (0.65, 3.0):
            found = sums(results, size, megapixels)
            totals = {(one["image"], one["contender"]): one["total"] for one in found}
            for one in found:
                theirs = totals.get((one["image"], "ultralytics"))
                ratio = f"{theirs / one['total']:.1f}×" if theirs else ""
                figures = [f"{one[key]:.1f}" for key in ("network", "around", "total")]
                cells.append([size, one["image"], one["row"]["title"], *figures, ratio])
    head = ["size", "image", "", "network", "around", "sum", "times ultralytics PyTorch"]
    return table(head, cells)


def batch_table(results: Results) -> str:
    single = {
        (row["contender"], row["threads"], row["case"]["megapixels"]): row["ms"]["total"]["median"]
        for row in reversed(list(rows_of(results, "end_to_end", batch=1)))
    }
    cells = []
    for row in results.get("end_to_end", {"rows": []})["rows"]:
        case = row["case"]
        if case["batch"] == 1:
            continue
        one = next(
            (
                ms
                for (who, threads, size), ms in single.items()
                if (who, threads) == (row["contender"], row["threads"]) and abs(size - case["megapixels"]) < 0.02
            ),
            None,
        )
        rates = [
            "" if one is None else f"{1000 / one:.2f}",
            f"{case['batch'] * 1000 / row['ms']['total']['median']:.2f}",
        ]
        cells.append([str(row["threads"]), _title(row), *rates])
    return table(["threads", "", "one by one", "in one call"], cells)


def network_table(results: Results) -> str:
    cells = []
    for row in results.get("network", {"rows": []})["rows"]:
        case = row["case"]
        floor = network_floor_ms(results, case["size"], case["threads"], precision_of(row))
        share = f"{100 * floor / row['ms']['network']['median']:.0f} %" if floor else ""
        worst = "" if row["worst_difference"] is None else f"{row['worst_difference']:.1g}"
        first = [case["size"], str(case["threads"]), row["title"], row["precision"], _ms(row, "network")]
        least = "" if floor is None else f"{floor:.1f}"
        cells.append([*first, _p95(row, "network"), str(row["runs"]), worst, least, share])
    head = ["size", "threads", "", "precision", "median", "p95", "runs", "worst", "floor", "of the peak"]
    return table(head, cells)


def prompts_table(results: Results) -> str:
    ratios = {
        (ratio["of"], ratio["case"]["points"]): ratio["values"]["total"]
        for ratio in results.get("prompts", {"ratios": []})["ratios"]
    }
    cells = []
    for row in results.get("prompts", {"rows": []})["rows"]:
        points = row["case"]["points"]
        select = _ms(row, "prompt", 2) if "prompt" in row["ms"] else ""
        ratio = f"{ratios[row['contender'], points]:.3f}"
        cells.append([row["title"], points, str(row["masks"]), _ms(row, "total"), ratio, select, str(row["runs"])])
    return table(["", "points", "masks", "end to end", "over 1 point", "select", "runs"], cells)


def stream_table(results: Results) -> str:
    found = results.get("stream", {"rows": [], "ratios": []})
    ratios = {(ratio["of"], ratio["case"]["way"]): ratio["values"]["total"] for ratio in found["ratios"]}
    cells = []
    for row in found["rows"]:
        case = row["case"]
        value = ratios.get((row["contender"], f"loop over {case['way']}"))
        ratio = "" if value is None else f"{value:.2f}×"
        first = [row["title"], case["way"], str(case["images"]), f"{case['megapixels']:g}"]
        cells.append([*first, _ms(row, "total"), ratio, str(row["runs"])])
    return table(["", "way", "files", "MP", "an image", "times the loop", "rounds"], cells)


def compiled_table(results: Results) -> str:
    found = results.get("compiled", {"rows": [], "ratios": []})
    ratios = {tuple(ratio["case"].values()): ratio["values"] for ratio in found["ratios"]}
    cells = []
    for row in found["rows"]:
        case = row["case"]
        times = [_ms(row, stage) for stage in ("before", "after", "rle", "cpu_before", "cpu_after", "cpu_rle")]
        values = ratios[tuple(case.values())]
        ratio = " / ".join(f"{values[stage]:.1f}×" for stage in ("before", "after", "rle"))
        first = [case["image"], f"{case['conf']:g}", str(row["masks"]), row["title"]]
        cells.append([*first, *times, ratio if row["contender"] == "ours_compiled" else ""])
    stages = ["before", "after", "RLE of 100", "before, CPU", "after, CPU", "RLE, CPU"]
    return table(["image", "conf", "masks", "", *stages, "NumPy / compiled"], cells)


def memory_table(results: Results) -> str:
    cells = []
    for row in results.get("memory", {"rows": []})["rows"]:
        case = row["case"]
        boxes = "" if row["box_pixels"] is None else f"{row['box_pixels'] / 1e6:.0f}"
        dense = f"{case['megapixels'] * 1e6 * row['masks'] / 2**20:.0f}"
        first = [
            case["image"],
            f"{case['megapixels']:g}",
            str(row["masks"]),
            row["title"],
            f"{row['over_engine_mb']:.0f}",
        ]
        cells.append([*first, boxes, f"{row['peak_mb']:.0f}", dense])
    head = [
        "image",
        "MP",
        "masks",
        "",
        "over the engine",
        "MP in boxes",
        "peak of the process",
        "dense, a byte a pixel",
    ]
    return table(head, cells)


def startup_table(results: Results) -> str:
    steps = ("import", "open", "first", "second", "until_answer")
    ratios = {
        ratio["of"]: ratio["values"]["until_answer"]
        for ratio in results.get("startup", {"ratios": []})["ratios"]
        if ratio["over"] == "ours_onnxruntime"
    }
    cells = []
    for row in results.get("startup", {"rows": []})["rows"]:
        ratio = f"{ratios[row['contender']]:.1f}×" if row["contender"] in ratios else ""
        times = [_ms(row, step, 0) if step in row["ms"] else "" for step in steps]
        cells.append([row["title"], *times, ratio, f"{row['peak_mb']:.0f}"])
    head = ["", "import", "open", "first image", "second image", "**command to first answer**", "", "peak MB"]
    return table(head, cells)


def scaling_table(results: Results, against: str) -> str:
    found: dict[Any, dict[str, dict[str, Any]]] = {}
    for row in rows_of(results, "scaling", against=against):
        found.setdefault((row["case"]["megapixels"], row["masks"]), {})[row["contender"]] = row
    cells = []
    for (megapixels, masks), who in found.items():
        figures = [
            _ms(who[name], stage) if name in who else ""
            for name in ("ours_onnxruntime", "ultralytics")
            for stage in ("around", "total")
        ]
        cells.append([f"{megapixels:g}", str(masks), *figures])
    head = ["MP", "masks", "ours, around", "end to end", "ultralytics, around", "end to end"]
    return table(head, cells)


def _ratios(results: Results, part: str, over: str) -> dict[tuple[str, str, int, int], dict[str, float]]:
    """(contender, image, threads, batch) → values of its ratio over that contender."""
    found = {}
    for ratio in results.get(part, {"ratios": []})["ratios"]:
        if ratio["over"] == over:
            case = ratio["case"]
            found[ratio["of"], case["image"], case["threads"], case["batch"]] = ratio["values"]
    return found


def table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    if not cells:
        return ""
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *cells])


def _ms(row: dict[str, Any], stage: str, digits: int = 1) -> str:
    return f"{row['ms'][stage]['median']:.{digits}f}"


def _title(row: dict[str, Any]) -> str:
    """With the precision, where it is not what the title leads one to expect."""
    precision = precision_of(row)
    return (
        row["title"]
        if precision == "fp32" or precision in row["title"].lower()
        else f"{row['title']} ({precision.upper()})"
    )


def _p95(row: dict[str, Any], stage: str) -> str:
    return f"{row['ms'][stage]['p95']:.1f}"
