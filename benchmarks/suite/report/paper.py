"""Our rows in the layout of the FastSAM paper's tables, the paper's own rows beside them."""

from __future__ import annotations

from fastsam_deploy.runtime.accuracy.paper import EDGES

from .readings import Results
from .tables import table

_POINTS = ("1", "10", "100", "E(16×16)", "E(32×32)", "E(64×64)")
_SPEED = {
    "SAM-H (paper, RTX 3090)": (446, 464, 627, 852, 2099, 6972),
    "SAM-B (paper, RTX 3090)": (110, 125, 230, 432, 1383, 5417),
    "FastSAM-x (paper, RTX 3090)": (40, 40, 40, 40, 40, 40),
}
_FIDELITY = ("mean_iou", "recall", "precision", "quality")
_MEMORY_MB = {"SAM-H (paper)": 7060, "SAM-B (paper)": 4670, "FastSAM-x (paper)": 2608}


def speed_by_prompts(results: Results) -> str:
    """Milliseconds an image by the number of points, the paper's table 1; "" without results."""
    ours: dict[str, dict[str, float]] = {}
    for row in results.get("prompts", {"rows": []})["rows"]:
        ours.setdefault(row["title"], {})[row["case"]["points"]] = row["ms"]["total"]["median"]
    if not ours:
        return ""
    cells = [
        [title, *(f"{times[points]:.0f}" if points in times else "" for points in _POINTS)]
        for title, times in ours.items()
    ]
    cells += [[title, *map(str, times)] for title, times in _SPEED.items()]
    return table(["method", *_POINTS], cells)


def memory(results: Results) -> str:
    """Peak memory, the paper's table in its README; "" without results."""
    peaks: dict[str, float] = {}
    for row in results.get("memory", {"rows": []})["rows"]:
        peaks[row["title"]] = max(peaks.get(row["title"], 0), row["peak_mb"])
    if not peaks:
        return ""
    cells = [[title, "process, MB", f"{peak:.0f}"] for title, peak in peaks.items()]
    cells += [[title, "GPU, MB", str(peak)] for title, peak in _MEMORY_MB.items()]
    return table(["method", "memory", "peak"], cells)


def precisions(results: Results) -> str:
    """What each precision costs on BSDS500; "" without results."""
    part = results.get("precisions", {"rows": []})
    cells = []
    for row in part["rows"]:
        if "mean_best_iou" not in row:
            continue
        figures, close = row["boundaries"], row["fidelity"]
        values = [figures["ods"], figures["ois"], figures["ap"], figures["r50"], row["mean_best_iou"]]
        kept = ["", "", "", ""] if close is None else [close[name] for name in _FIDELITY]
        cells.append(
            [row["name"], str(row["images"]), *(f"{value:.3f}" if value != "" else "" for value in values + kept)]
        )
    if not cells:
        return ""
    names = ["file", "images", "ODS", "OIS", "AP", "R50", "mean best IoU"]
    return table([*names, *(f"fidelity: {name.replace('_', ' ')}" for name in _FIDELITY)], cells)


def about_precisions(results: Results) -> str:
    """How those figures were taken, and how long judging an edge map takes; "" without results."""
    part = results.get("precisions")
    if part is None:
        return ""
    settings, judging = part["settings"], part["judging"]
    seconds = judging["mean_cpu_seconds"]
    every, data = settings["every"], settings["data"]
    which = f"All images of {data}" if every == 1 else f"1 of every {every} images of {data}, by name"
    return (
        f"{which}, {settings['thresholds']} thresholds. Judging "
        f"an edge map takes {seconds:.1f} s of processor time ({judging['thresholds']} thresholds, mean of "
        f"{judging['images']} images): {200 * seconds / 2 / 60:.1f} minutes for 200 images on two processors that do "
        "nothing else."
    )


def edges(results: Results) -> str:
    """BSDS500; "" without results."""
    cells = []
    for row in results.get("accuracy", {"rows": []})["rows"]:
        figures = row["boundaries"]
        values = (figures["ods"], figures["ois"], figures["ap"], figures["r50"])
        cells.append([row["name"], str(row["images"]), *(f"{value:.3f}" for value in values)])
    if not cells:
        return ""
    cells += [[f"{name}, test", "200", *(f"{value:.3f}" for value in row.values())] for name, row in EDGES.items()]
    return table(["method", "images", "ODS", "OIS", "AP", "R50"], cells)
