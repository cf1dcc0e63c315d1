"""What the report reads from results: rows by their case, sums, and the floors under times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Results = dict[str, dict[str, Any]]
"""Part → what its file holds."""

LARGE, SMALL = 3.0, 0.65
"""Image sizes of the goals, MP."""


def threads_of(results: Results) -> int:
    """The number of threads that the goals are for: the most that was measured."""
    return max((max(part["settings"]["threads"]) for part in results.values()), default=1)


def rows_of(results: Results, part: str, **case: Any) -> Iterator[dict[str, Any]]:
    """Rows of a part whose case has these values; sizes of images within 2 %."""
    for row in results.get(part, {"rows": []})["rows"]:
        found = row["case"]
        if all(is_near(found.get(key), value) for key, value in case.items()):
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


def precision_of(row: dict[str, Any]) -> str:
    """What the network computed in."""
    return str(row.get("precision") or "fp32")


def network_floor_ms(results: Results, size: str, threads: int, precision: str = "fp32") -> float | None:
    """Operations of the network over the measured peak of the processor in that precision."""
    name = "gflops" if precision == "fp32" else f"{'bf16' if precision == 'mixed' else precision}_gflops"
    for row in rows_of(results, "network", size=size, threads=threads):
        peak = results["network"]["environment"]["peak"][str(threads)].get(name)
        return None if peak is None else float(row["gflop"] / peak * 1000)
    return None


def around_floor_ms(results: Results, row: dict[str, Any]) -> float:
    """The image read once, and the masks written once at a bit a pixel, over the measured bandwidth."""
    peak = results["end_to_end"]["environment"]["peak"][str(row["threads"])]["gb_per_s"]
    return float((row["case"]["megapixels"] * 3e6 + row["box_pixels"] / 8) / peak / 1e6)


def is_near(found: Any, wanted: Any) -> bool:
    """Equal; sizes of images within 2 %."""
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        return abs(found - wanted) <= 0.02 * wanted
    return bool(found == wanted)
