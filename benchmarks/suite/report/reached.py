"""What the suite's goals came to on a kind of processor: figures first, then what was missed, against the floor."""

from __future__ import annotations

from collections.abc import Sequence

from .goals import TRIED, Goal, goals
from .readings import LARGE, Results, is_near
from .tables import table

_MISSED = (
    "Missed, with the profile and the floor under it (operations over the peak of the precision, bytes over the "
    "measured bandwidth); “at the floor” is what would be measured if ours took the floor alone."
)

_FIRST_ROWS = (
    "These rows are from before masks were compiled. **In those of two threads ultralytics' PyTorch had one**, as it "
    "takes by itself on two processors; since then the suite gives it the same threads."
)


def processor_of(kind: str, results: Results) -> str:
    """The processor in a heading."""
    found = [part["environment"] for part in results.values()]
    names = ", ".join(dict.fromkeys(f"{one['cpu']}, {one['processors']} processors" for one in found))
    dates = sorted({one["date"] for one in found})
    return f"{kind} ({names}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))})"


def reached(kind: str, results: Results) -> str:
    """The goals of a kind of processor, and what was measured."""
    found = goals(results, kind)
    cells = []
    for goal in found:
        sign = "≥" if goal.at_least else "≤"
        measured = "not measured" if goal.measured is None else f"**{short(goal.measured)}{goal.unit}**"
        least = "" if goal.best is None else f"{short(goal.best)}{goal.unit}"
        cells.append([goal.text, measured, f"{sign} {goal.wanted:g}{goal.unit}", _met(goal), least])
    lines = [f"## Reached: {processor_of(kind, results)}", ""]
    if not has_equal_threads(results):
        lines += [_FIRST_ROWS, ""]
    lines.append(table(["", "reached", "goal", "met", "the floor allows"], cells))
    lines += ["", text] if (text := _as_it_comes(results)) else []
    missed = [goal for goal in found if goal.met is False]
    return "\n".join([*lines, *(_profiles(missed) if missed else [])])


def _as_it_comes(results: Results) -> str:
    """The same against ultralytics with the threads that it chooses itself; "" where that was not measured."""
    least: dict[str, float] = {}
    for ratio in results.get("end_to_end", {"ratios": []})["ratios"]:
        if ratio["of"] == "ultralytics_as_it_comes" and is_near(ratio["case"]["megapixels"], LARGE):
            least[ratio["over"]] = min(least.get(ratio["over"], ratio["values"]["total"]), ratio["values"]["total"])
    titles = {row["contender"]: row["title"] for row in results.get("end_to_end", {"rows": []})["rows"]}
    shown = ", ".join(f"{short(value)}× ({titles[name].removeprefix('ours, ')})" for name, value in least.items())
    how = "By itself ultralytics gives PyTorch one thread fewer than the machine has processors. Against that, at"
    return f"{how} {LARGE:g} MP: {shown}." if shown else ""


def has_equal_threads(results: Results) -> bool:
    """Whether the threads of the libraries were looked at: the first rows are from before that."""
    rows = results.get("end_to_end", {"rows": []})["rows"]
    return all("library_threads" in row for row in rows if row["case"]["batch"] == 1)


def _met(goal: Goal) -> str:
    if goal.met is not False:
        return "yes" if goal.met else ""
    if not goal.out_of_reach:
        return "**no**"
    assert goal.best is not None
    assert goal.measured is not None
    share = goal.measured / goal.best if goal.at_least else goal.best / goal.measured
    return f"beyond the floor: {100 * share:.0f} % of it"


def _profiles(missed: Sequence[Goal]) -> list[str]:
    rows = []
    for goal in missed:
        for i, (what, measured, floor, unit) in enumerate(goal.profile):
            best = f"{short(goal.best)}{goal.unit}" if i == 0 and goal.best is not None else ""
            least = "" if floor is None else f"{short(floor)} {unit}"
            rows.append([goal.text if i == 0 else "", what, f"{short(measured)} {unit}", least, best])
    shown = ["", _MISSED, "", table(["goal", "what", "measured", "floor", "at the floor"], rows), ""] if rows else [""]
    return [*shown, *(f"- {topic}: {TRIED[topic]}" for topic in dict.fromkeys(goal.topic for goal in missed))]


def short(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
