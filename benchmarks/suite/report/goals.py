"""What the suite shall show: goals, what was measured, and for what is missed the profile and the floor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Results = dict[str, dict[str, Any]]

LARGE, SMALL = 3.0, 0.65
"""Image sizes of the goals, MP."""
_ENGINES = {"ours_openvino": "OpenVINO", "ours_onnxruntime": "ONNX Runtime"}

TRIED = {
    "network": "The network takes most of the time; how near it is to what this processor can do, the floor tells. "
    "Engines, threads and copies of the input that were tried: docs/adr/0009-engine-on-a-cpu.md. Arithmetic in fewer "
    "digits (bf16, INT8) is what remains; the instructions that this processor has for it are named above.",
    "around": "Masks are made on their boxes alone, by products with banded matrices, into one piece of memory "
    "(runtime/stages/assemble.py). Gathering and mixing, and whole-image masks, cost more "
    "(docs/adr/0003-masks-on-crops.md). "
    "What is left is in proportion to the area of the boxes.",
    "memory": "A mask takes one bit for each pixel of its box; nothing of the size of image × masks is made "
    "(docs/adr/0013-packed-masks.md). The demo model's boxes are large: enlarged to 24 MP, 300 of them nearly cover "
    "the image each, and their bits alone are the floor. The mosaic shows an image of many small things.",
    "gpu_host": "On an idle emulated device, so without what a real driver's calls cost more. The image is copied into "
    "page-locked memory once, the masks not at all; tables and records are made once for a size. What is left of a "
    "small image is Python: some 15 calls of the driver, and the checks of `Segments` and `Masks`.",
    "prompts": "Points are looked up as bits, all masks and points at once (PackedMasks.contain); making masks for "
    "chosen points only was not taken (docs/adr/0013-packed-masks.md).",
}


@dataclass(frozen=True)
class Goal:
    """One line of the goals' table.

    Attributes:
        measured: None where its parts were not measured.
        at_least: else at most.
        unit: after the figures.
        topic: key of TRIED.
        profile: what takes the time or memory: (what, measured, floor, unit); the floor None where there is none.
        best: the figure that would be measured if ours took only the floor; None where that says nothing.
    """

    text: str
    wanted: float
    measured: float | None
    at_least: bool
    unit: str
    topic: str
    profile: tuple[tuple[str, float, float | None, str], ...] = ()
    best: float | None = field(default=None)

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


def goals(results: Results) -> list[Goal]:
    """All goals, in the order of the table. What was not measured has no figure."""
    return [
        *_end_to_end(results, LARGE, {"ours_openvino": (20, 15), "ours_onnxruntime": (10, 5)}),
        *_end_to_end(results, SMALL, {"ours_openvino": (4, 4), "ours_onnxruntime": (2, 2)}),
        _around(results),
        *_memory(results),
        _points(results),
        *_gpu_host(results),
        *_compiled(results),
    ]


def _gpu_host(results: Results) -> Iterator[Goal]:
    """The host's part of a call on a GPU."""
    for row in rows_of(results, "gpu_host"):
        if row.get("goal_ms") is None:
            continue
        text = f"GPU pipeline, the host's part: {row['case']['image']}"
        yield Goal(text, row["goal_ms"], row["ms"]["total"]["median"], False, " ms", "gpu_host")


def _compiled(results: Results) -> Iterator[Goal]:
    """Compiled code: 300 masks of 24 MP, and the RLE of 100 masks of 3 MP."""
    for row in rows_of(results, "compiled"):
        case, is_compiled = row["case"], row["contender"] == "ours_compiled"
        if is_compiled and _same(case["megapixels"], 24.0) and row["masks"] == 300:
            yield Goal(f"300 masks, {case['image']}", 60, row["ms"]["after"]["median"], False, " ms", "around")
        if is_compiled and _same(case["megapixels"], LARGE) and row["masks"] >= 100:
            yield Goal(f"RLE of 100 masks, {case['image']}", 5, row["ms"]["rle"]["median"], False, " ms", "around")


def threads_of(results: Results) -> int:
    """The number of threads that the goals are for: the most that was measured."""
    return max((max(part["settings"]["threads"]) for part in results.values()), default=1)


def rows_of(results: Results, part: str, **case: Any) -> Iterator[dict[str, Any]]:
    """Rows of a part whose case has these values; sizes of images within 2 %."""
    for row in results.get(part, {"rows": []})["rows"]:
        found = row["case"]
        if all(_same(found.get(key), value) for key, value in case.items()):
            yield row


def network_ms(results: Results, size: str, threads: int) -> dict[str, float]:
    """Contender → median of its network alone."""
    rows = rows_of(results, "network", size=size, threads=threads)
    return {row["contender"]: row["ms"]["network"]["median"] for row in rows}


def sums(results: Results, size: str, megapixels: float) -> list[dict[str, Any]]:
    """End to end: n as it ran; of others the network's time alone, plus what the demo model's detections take around.

    For each photograph and contender {"image", "contender", "network", "around", "total"}, medians in milliseconds.
    """
    threads = threads_of(results)
    networks = network_ms(results, size, threads)
    found = []
    for row in rows_of(results, "end_to_end", megapixels=megapixels, threads=threads, batch=1):
        case = {"image": row["case"]["image"], "contender": row["contender"], "row": row}
        stages = {stage: row["ms"][stage]["median"] for stage in ("network", "around", "total")}
        if size == "n":
            found.append({**case, **stages})
        elif row["contender"] in networks:
            network, around = networks[row["contender"]], stages["around"]
            found.append({**case, "network": network, "around": around, "total": network + around})
    return found


def network_floor_ms(results: Results, size: str, threads: int) -> float | None:
    """Operations of the network over the measured peak of the processor."""
    for row in rows_of(results, "network", size=size, threads=threads):
        peak = results["network"]["environment"]["peak"][str(threads)]["gflops"]
        return float(row["gflop"] / peak * 1000)
    return None


def around_floor_ms(results: Results, row: dict[str, Any]) -> float:
    """The image read once, and the masks written once at a bit a pixel, over the measured bandwidth."""
    peak = results["end_to_end"]["environment"]["peak"][str(row["threads"])]["gb_per_s"]
    return float((row["case"]["megapixels"] * 3e6 + row["box_pixels"] / 8) / peak / 1e6)


def _end_to_end(results: Results, megapixels: float, wanted: dict[str, tuple[float, float]]) -> Iterator[Goal]:
    for ours, (n, s) in wanted.items():
        text = f"end to end, {megapixels:g} MP, {{}}, {_ENGINES[ours]} against ultralytics PyTorch with retina_masks"
        yield _against_pytorch(results, text.format("n"), "n", ours, megapixels, n)
        yield _against_pytorch(results, text.format("s (sum of medians)"), "s", ours, megapixels, s)


def _against_pytorch(results: Results, text: str, size: str, ours: str, megapixels: float, wanted: float) -> Goal:
    """The least of the photographs."""
    by_image: dict[str, dict[str, dict[str, Any]]] = {}
    for one in sums(results, size, megapixels):
        by_image.setdefault(one["image"], {})[one["contender"]] = one
    found = {}
    for image, who in by_image.items():
        if ours in who and "ultralytics" in who:
            found[image] = who["ultralytics"]["total"] / who[ours]["total"]
    if size == "n":  # really run, and ratios taken round by round
        found = {
            ratio["case"]["image"]: ratio["values"]["total"]
            for ratio in results.get("end_to_end", {"ratios": []})["ratios"]
            if ratio["case"]["image"] in found and _is_pair(ratio, ours, threads_of(results))
        }
    if not found:
        return Goal(text, wanted, None, True, "×", "network")
    image = min(found, key=lambda name: found[name])
    own, theirs = by_image[image][ours], by_image[image]["ultralytics"]
    floor = network_floor_ms(results, size, threads_of(results))
    around = around_floor_ms(results, own["row"])
    profile = (
        (f"{image}: network", own["network"], floor, "ms"),
        (f"{image}: around it", own["around"], around, "ms"),
    )
    best = theirs["total"] / (floor + around) if floor is not None else None
    return Goal(text, wanted, found[image], True, "×", "network", profile, best)


def _is_pair(ratio: dict[str, Any], ours: str, threads: int) -> bool:
    case = ratio["case"]
    return ratio["of"] == "ultralytics" and ratio["over"] == ours and case["threads"] == threads and case["batch"] == 1


def _around(results: Results) -> Goal:
    text = f"everything around the network, {LARGE:g} MP, against ultralytics PyTorch with retina_masks"
    threads = threads_of(results)
    found = {
        ratio["case"]["image"]: ratio["values"]["around"]
        for ratio in results.get("end_to_end", {"ratios": []})["ratios"]
        if _is_pair(ratio, "ours_onnxruntime", threads) and _same(ratio["case"]["megapixels"], LARGE)
    }
    if not found:
        return Goal(text, 100, None, True, "×", "around")
    image = min(found, key=lambda name: found[name])
    rows = {row["contender"]: row for row in rows_of(results, "end_to_end", image=image, threads=threads, batch=1)}
    own = rows["ours_onnxruntime"]
    floor = around_floor_ms(results, own)
    profile = (
        (f"{image}: before the network", own["ms"]["before"]["median"], None, "ms"),
        (f"{image}: after it, {own['masks']} masks", own["ms"]["after"]["median"], None, "ms"),
        (f"{image}: both", own["ms"]["around"]["median"], floor, "ms"),
    )
    return Goal(
        text, 100, found[image], True, "×", "around", profile, rows["ultralytics"]["ms"]["around"]["median"] / floor
    )


def _memory(results: Results) -> Iterator[Goal]:
    rows = [
        row
        for row in results.get("memory", {"rows": []})["rows"]
        if row["contender"] == "ours_onnxruntime" and row["masks"] == 300
    ]
    for row in rows or [None]:
        what = "" if row is None else f" ({row['case']['image']})"
        text = f"300 masks of a 24 MP image, memory over the engine's{what}"
        if row is None:
            yield Goal(text, 100, None, False, " MB", "memory")
        else:
            floor = row["box_pixels"] / 8 / 2**20
            profile = (("peak over the engine's; the masks at a bit a pixel", row["over_engine_mb"], floor, "MB"),)
            yield Goal(text, 100, row["over_engine_mb"], False, " MB", "memory", profile, floor)


def _points(results: Results) -> Goal:
    """Of what looking up the points takes, and not of two whole runs, which differ by more than that."""
    text = "4096 points over 1 point, one image, end to end"
    rows = {
        row["case"]["count"]: row
        for row in results.get("prompts", {"rows": []})["rows"]
        if row["contender"] == "ours_onnxruntime"
    }
    if not {1, 4096} <= rows.keys():
        return Goal(text, 2, None, False, " %", "prompts")
    one, many = rows[1]["ms"], rows[4096]["ms"]
    more = many["prompt"]["median"] - one["prompt"]["median"]
    profile = (("select, 1 point", one["prompt"]["median"], None, "ms"), ("4096", many["prompt"]["median"], None, "ms"))
    return Goal(text, 2, 100 * more / one["total"]["median"], False, " %", "prompts", profile)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        return abs(found - wanted) <= 0.02 * wanted
    return bool(found == wanted)
