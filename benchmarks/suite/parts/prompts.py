"""Part "prompts": one image of 3 MP with 1 to 4096 points, as in the paper's table; the cost shall be flat."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contenders import Runner, require_same, running
from ..records import Record, Settings, megapixels, photograph_sizes, segmenters

RUNS = {"ours_onnxruntime": 21, "ours_openvino": 21, "ultralytics": 3}
STAGES = ("total", "network", "prompt")


def measure(settings: Settings) -> Record:
    """Rows: case {points, count}, "masks"; ratios "total" of each prompt over one point, of the same contender."""
    record = Record()
    field = record.available(segmenters(settings, max(settings.threads)).values())
    if settings.quick:
        field = [one for one in field if one.ours]
    label, image = next(iter(photograph_sizes(settings.photographs, settings.megapixels([3.0])[-1:]).items()))
    prompts = point_prompts(image.shape[:2])
    with running([one for one in field if one.name in RUNS]) as runners:
        for runner in runners.values():
            runner.ask("show", images=[image])
        counts = {name: _require_same_answers(runners, name, points) for name, points in prompts.items()}
        for name, runner in runners.items():
            times = _rounds(runner, prompts, settings.runs(RUNS[name]), settings.seconds)
            for prompt, ms in times.items():
                case = {
                    "image": label,
                    "megapixels": megapixels(image),
                    "points": prompt,
                    "count": len(prompts[prompt]),
                }
                record.row(runner.contender, case, ms, masks=counts[prompt])
                one = [first["total"] for first in times["1"]]
                pairs = zip([each["total"] for each in ms], one, strict=True)
                record.ratio(
                    case, runner.contender, runner.contender, {"total": [total / base for total, base in pairs]}
                )
    return record


def point_prompts(image_hw: tuple[int, int]) -> dict[str, list[list[int]]]:
    """Name → points: 1, 10 and 100 at random, and the centres of grids of 16, 32 and 64 a side."""
    height, width = image_hw
    rng = np.random.default_rng(0)
    found = {}
    for count in (1, 10, 100):
        found[str(count)] = rng.integers(0, (width, height), (count, 2)).tolist()
    for side in (16, 32, 64):
        x, y = ((np.arange(side) + 0.5) * (length / side) for length in (width, height))
        found[f"E({side}×{side})"] = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2).astype(int).tolist()
    return found


def _rounds(
    runner: Runner, prompts: dict[str, list[list[int]]], runs: int, seconds: float
) -> dict[str, list[dict[str, Any]]]:
    """Rounds through all prompts, in an order that changes; at most as long as a case times their number."""
    import time

    start = time.perf_counter()
    times: dict[str, list[dict[str, Any]]] = {name: [] for name in prompts}
    names = list(prompts)
    for run in range(runs):
        if run >= min(3, runs) and time.perf_counter() - start > 2 * seconds:
            break
        shift = run % len(names)
        for name in names[shift:] + names[:shift]:
            ms = runner.ask("segment", points=prompts[name])["ms"]
            times[name].append({stage: ms[stage] for stage in STAGES if stage in ms})
    return times


def _require_same_answers(runners: dict[str, Runner], name: str, points: list[list[int]]) -> int:
    """Number of masks under the points, the same for all contenders."""
    answers = {who: runner.ask("segment", masks=True, points=points)["masks"] for who, runner in runners.items()}
    reference = answers.get("ultralytics", next(iter(answers.values())))
    for who, masks in answers.items():
        require_same(masks, reference, f"{name} points, {who}", runners[who].precision)
    return len(reference)
