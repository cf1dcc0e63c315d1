"""Nightly: the ratios of the suite may not fall by more than 15 % against the committed rows.

    python -m benchmarks.suite.guard                       # measures PARTS, and compares
    python -m benchmarks.suite.guard --measured FOLDER     # compares suite_*.json that are there already

A part in which something fell is measured once more, and the better of the two counts: the machine may have been busy.
Exit code 0: nothing fell; 1: something did; 2: there is nothing to compare with, such as rows of another processor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..photographs import RESULTS
from .machine import kind_here
from .records import load_results
from .report.readings import Results

PARTS = ("end_to_end", "prompts", "memory", "gpu_host")
FALL = 0.15
SECONDS = 6.0
"""Of a case; the committed rows have more rounds. Ratios of contenders that take turns need few."""
LEAST_MB = 20
"""Smaller amounts of memory are not compared: some pages more or less are many percent of them."""


@dataclass(frozen=True)
class Figure:
    """One guarded figure: a ratio of times, or an amount of memory."""

    value: float
    higher_is_better: bool

    def change(self, new: Figure) -> float:
        """Of another measurement: by what part it is better, negative where it is worse."""
        return new.value / self.value - 1 if self.higher_is_better else 1 - new.value / self.value


def main() -> int:
    arguments = _arguments()
    kept = load_results(arguments.committed)
    if not kept and arguments.committed == RESULTS / kind_here():
        print(f"not compared: no rows of a processor of the kind {kind_here()} are committed; measure it here first")
        return 2
    committed = {name: part for name, part in kept.items() if name in arguments.parts}
    missing = [name for name in arguments.parts if name not in committed]
    if missing:
        print(
            f"{arguments.committed}: no results of {', '.join(missing)}; run python -m benchmarks.suite and commit them"
        )
        return 2
    with tempfile.TemporaryDirectory() as folder:
        first = arguments.measured or _measure(arguments.parts, Path(folder) / "first", arguments.seconds)
        measured = load_results(first)
        reason = not_comparable(committed, measured)
        if reason is not None:
            print(f"not compared: {reason}")
            return 2
        worse = fallen(committed, [measured], arguments.fall)
        if worse and arguments.measured is None:
            parts = sorted({name.split(":", 1)[0] for name in worse})
            print(f"{len(worse)} figures fell; measuring {', '.join(parts)} once more")
            again = load_results(_measure(parts, Path(folder) / "second", arguments.seconds))
            worse = fallen(committed, [measured, again], arguments.fall)
    for name, text in worse.items():
        print(f"{name}: {text}")
    count = len(figures(committed))
    print(f"{len(worse)} of {count} figures fell by more than {arguments.fall:.0%}")
    return 1 if worse else 0


def not_comparable(committed: Results, measured: Results) -> str | None:
    """Why the results cannot be held against each other; None where they can."""
    for name, part in committed.items():
        if name not in measured:
            return f"part {name} was not measured"
        for key in ("cpu", "processors", "cpu_flags"):
            old, new = part["environment"][key], measured[name]["environment"][key]
            if old != new:
                return f"part {name} was committed with {key} {old}, this machine has {new}; measure it here first"
        for key in ("imgsz", "quick", "conf"):
            old, new = part["settings"].get(key), measured[name]["settings"].get(key)
            if old != new:
                return f"part {name} was committed with {key} {old}, now it is {new}"
    return None


def fallen(committed: Results, attempts: Sequence[Results], fall: float = FALL) -> dict[str, str]:
    """Figure → what happened to it, for those that fell by more than `fall` in every attempt, or are gone.

    What a part left out and said so, as a library is not installed, is no fall.
    """
    found = [figures(attempt) for attempt in attempts]
    left_out = {one["what"] for attempt in attempts for part in attempt.values() for one in part["skipped"]}
    worse = {}
    for name, old in figures(committed).items():
        new = [attempt[name] for attempt in found if name in attempt]
        if not new:
            if not any(what in name.split(" ") for what in left_out):
                worse[name] = f"was {old.value:g}, is not measured any more"
            continue
        best = max(new, key=old.change)
        if old.change(best) < -fall:
            worse[name] = f"was {old.value:g}, is {best.value:g} ({old.change(best):+.0%})"
    return worse


def figures(results: Results) -> dict[str, Figure]:
    """Name → figure of everything that is guarded."""
    return {name: figure for part in results.values() for name, figure in _figures(part)}


def _figures(part: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    for ratio in part["ratios"]:
        for what, value in ratio["values"].items():
            # A contender's ratio to itself is what more work costs it.
            better = ratio["of"] != ratio["over"]
            yield f"{part['part']}: {what} {ratio['of']} / {ratio['over']} {_case(ratio)}", Figure(value, better)
    for row in part["rows"]:
        if row.get("over_engine_mb", 0) >= LEAST_MB and row["contender"].startswith("ours"):
            yield f"{part['part']}: MB {row['contender']} {_case(row)}", Figure(row["over_engine_mb"], False)


def _case(row: dict[str, Any]) -> str:
    return json.dumps(row["case"], ensure_ascii=False, sort_keys=True)


def _measure(parts: Sequence[str], folder: Path, seconds: float) -> Path:
    """Run the suite into a folder. A part makes the model files that it lacks: not all, which takes minutes."""
    command = [sys.executable, "-m", "benchmarks.suite", "--no-report", "--output", str(folder)]
    subprocess.run([*command, "--parts", ",".join(parts), "--seconds", str(seconds)], check=True)
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Have the suite's ratios fallen?")
    parser.add_argument(
        "--committed",
        type=Path,
        default=RESULTS / kind_here(),
        help="folder of the rows to compare with; default: those of this kind of processor",
    )
    parser.add_argument("--measured", type=Path, help="folder of new rows; default: measured now")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a case, after which no round begins")
    parser.add_argument("--fall", type=float, default=FALL, help="allowed, 0.15 is 15 %%")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
