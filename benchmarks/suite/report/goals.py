"""What the suite shall show: goals, what was measured, and for what is missed the profile and the floor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .readings import (
    LARGE,
    SMALL,
    Results,
    around_floor_ms,
    is_near,
    network_floor_ms,
    network_ms,
    precision_of,
    rows_of,
    threads_of,
)

_AVX512 = {"fp32": 42.0, "int8": 80.0}
END_TO_END = {
    "amx": {**_AVX512, "bf16": 70.0},
    "avx512-bf16": {**_AVX512, "bf16": 70.0},
    "avx512-vnni": _AVX512,
    "avx2": {"fp32": 10.0, "int8": 14.0},
}
"""Kind of processor → precision → times as fast as ultralytics' PyTorch at LARGE."""
AROUND = {LARGE: 250.0, SMALL: 60.0}
INT8_NETWORK = 0.4
_ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
STREAM = 1.25
STARTUP_MS = {"ours_command": 450.0, "ours_onnxruntime": 450.0, "ours_onnxruntime_cached": 350.0}
_STARTED = {"ours_command": "`fastsam segment`", "ours_onnxruntime_cached": "in Python, `cache=True`"}

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
    "small image is Python: some 15 calls of the driver, and the checks of `Segments` and `Masks`. Calls follow each "
    "other, as in a stream; `cold` in suite_gpu_host.json is a call after something else has had the caches.",
    "startup": "Most of it is loading NumPy, OpenCV, ONNX Runtime and, in the command, pydantic; all else is imported "
    "when it is used (docs/adr/0046-start-of-a-command.md).",
    "stream": "Runs of ONNX Runtime at once have a thread each (docs/adr/0048-runs-at-once-on-a-processor.md); "
    "OpenVINO does so with hint='throughput'.",
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
    def out_of_reach(self) -> bool:
        """Whether this machine's floor is short of the goal."""
        if self.best is None or self.met:
            return False
        return self.best < self.wanted if self.at_least else self.best > self.wanted

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


def goals(results: Results, kind: str) -> list[Goal]:
    """All goals of a kind of processor, in the order of the table. What was not measured has no figure."""
    return [
        *(_against_pytorch(results, precision, wanted) for precision, wanted in END_TO_END.get(kind, {}).items()),
        *(_around(results, megapixels, wanted) for megapixels, wanted in AROUND.items()),
        *_int8_network(results, kind),
        *_compiled(results),
        *_startup(results),
        *_stream(results),
        *_memory(results),
        _points(results),
        *_gpu_host(results),
    ]


def _int8_network(results: Results, kind: str) -> Iterator[Goal]:
    """The network's time in INT8 as a part of that in FP32, both in ONNX Runtime."""
    text = "network n in INT8 over FP32, ONNX Runtime"
    times = network_ms(results, "n", threads_of(results))
    if "int8" not in END_TO_END.get(kind, {}) or kind == "avx2":
        return
    pair = times.get("ours_onnxruntime_int8"), times.get("ours_onnxruntime")
    share = None if None in pair else pair[0] / pair[1]  # type: ignore[operator]
    yield Goal(text, INT8_NETWORK, share, False, "", "network")


def _startup(results: Results) -> Iterator[Goal]:
    rows = {row["contender"]: row for row in rows_of(results, "startup")}
    for name, wanted in STARTUP_MS.items():
        text = f"command to first answer, {_STARTED.get(name, 'in Python')}"
        measured = rows[name]["ms"]["until_answer"]["median"] if name in rows else None
        yield Goal(text, wanted, measured, False, " ms", "startup")


def _stream(results: Results) -> Iterator[Goal]:
    """Many files in a stream against a loop, in INT8."""
    ratios = [
        (ratio["case"]["way"].removeprefix("loop over "), ratio["of"], ratio["values"]["total"])
        for ratio in results.get("stream", {"ratios": []})["ratios"]
        if ratio["of"].endswith("int8")
    ]
    for way, name, measured in ratios or [("stream", "ours_onnxruntime_int8", None)]:
        text = f"many files, {way} against a loop, {LARGE:g} MP, INT8, {_ENGINES[name.split('_')[1]]}"
        yield Goal(text, STREAM, measured, True, "×", "stream")


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
        if is_compiled and is_near(case["megapixels"], 24.0) and row["masks"] == 300:
            yield Goal(
                f"300 masks, {case['image']}, conf {case['conf']:g}",
                60,
                row["ms"]["after"]["median"],
                False,
                " ms",
                "around",
            )
        if is_compiled and is_near(case["megapixels"], LARGE) and row["masks"] >= 100:
            yield Goal(
                f"RLE of 100 masks, {case['image']}, conf {case['conf']:g}",
                5,
                row["ms"]["rle"]["median"],
                False,
                " ms",
                "around",
            )


def _against_pytorch(results: Results, precision: str, wanted: float) -> Goal:
    """The best of our ways to compute in a precision, each judged by the least of the photographs."""
    text = f"end to end, {LARGE:g} MP, {precision.upper()}, against ultralytics PyTorch with retina_masks"
    threads = threads_of(results)
    judged = []
    for own in rows_of(results, "end_to_end", megapixels=LARGE, threads=threads, batch=1):
        if own["contender"].startswith("ours") and precision_of(own) == precision:
            ratio = _ratio(results, own, threads)
            if ratio is not None:
                judged.append((own["contender"], ratio, own))
    if not judged:
        return Goal(text, wanted, None, True, "×", "network")
    least = {name: min((one for one in judged if one[0] == name), key=lambda one: one[1]) for name, *_ in judged}
    _, ratio, own = max(least.values(), key=lambda one: one[1])
    theirs = _row_beside(results, own, "ultralytics")
    floor = network_floor_ms(results, "n", threads, precision)
    around, image = around_floor_ms(results, own), own["case"]["image"]
    median = {stage: own["ms"][stage]["median"] for stage in ("network", "around")}
    profile = (
        (f"{image}: network", median["network"], floor, "ms"),
        (f"{image}: around it", median["around"], around, "ms"),
    )
    best = theirs["ms"]["total"]["median"] / (floor + around) if floor is not None else None
    return Goal(f"{text} ({own['title'].removeprefix('ours, ')})", wanted, ratio, True, "×", "network", profile, best)


def _ratio(results: Results, own: dict[str, Any], threads: int, what: str = "total") -> float | None:
    """Ultralytics over ours of a row, of the rounds."""
    for ratio in results["end_to_end"]["ratios"]:
        if _is_pair(ratio, own["contender"], threads) and ratio["case"]["image"] == own["case"]["image"]:
            return float(ratio["values"][what])
    return None


def _row_beside(results: Results, row: dict[str, Any], contender: str) -> dict[str, Any]:
    """Of another contender, the same case."""
    return next(
        other
        for other in results["end_to_end"]["rows"]
        if other["contender"] == contender and other["case"] == row["case"]
    )


def _is_pair(ratio: dict[str, Any], ours: str, threads: int) -> bool:
    case = ratio["case"]
    return ratio["of"] == "ultralytics" and ratio["over"] == ours and case["threads"] == threads and case["batch"] == 1


def _around(results: Results, megapixels: float, wanted: float) -> Goal:
    """On one thread, the least of the photographs."""
    text = f"everything around the network, {megapixels:g} MP, one thread, against ultralytics with retina_masks"
    found = []
    for own in rows_of(results, "end_to_end", megapixels=megapixels, threads=1, batch=1):
        ratio = _ratio(results, own, 1, "around") if own["contender"] == "ours_onnxruntime" else None
        if ratio is not None:
            found.append((ratio, own))
    if not found:
        return Goal(text, wanted, None, True, "×", "around")
    ratio, own = min(found, key=lambda one: one[0])
    image, floor = own["case"]["image"], around_floor_ms(results, own)
    profile = (
        (f"{image}: before the network", own["ms"]["before"]["median"], None, "ms"),
        (f"{image}: after it, {own['masks']} masks", own["ms"]["after"]["median"], None, "ms"),
        (f"{image}: both", own["ms"]["around"]["median"], floor, "ms"),
    )
    theirs = _row_beside(results, own, "ultralytics")["ms"]["around"]["median"]
    return Goal(text, wanted, ratio, True, "×", "around", profile, theirs / floor)


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
