"""Part "scaling": cost against the size of the image, and against the number of masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contenders import STAGES, Runner, in_turn, require_same, running
from ..records import Record, Settings, megapixels, photograph_sizes, segmenters

MEGAPIXELS = (0.3, 0.65, 1.5, 3.0, 6.0, 12.0, 24.0)
MASKS = (0, 1, 3, 10, 30, 100, 300)
RUNS = 7
LARGEST_DENSE_BYTES = 3e9
"""Ultralytics is left out where its masks, a byte for each pixel of the image and mask, would take more."""
_WHO = ("ours_onnxruntime", "ultralytics")


def measure(settings: Settings) -> Record:
    """Rows: case {image, megapixels, against, wanted}, "masks"; ratios "total" and "around"."""
    record = Record()
    field = [one for one in segmenters(settings, max(settings.threads)).values() if one.name in _WHO]
    if settings.quick:
        field = [one for one in field if one.ours]
    images = photograph_sizes(settings.photographs, settings.megapixels(MEGAPIXELS), names=1)
    with running(record.available(field)) as runners:
        for label, image in images.items():
            case = {"image": label, "megapixels": megapixels(image), "against": "size", "wanted": 300}
            _measure(settings, record, runners, image, case, {})
        label, image = next((one for one in images.items() if megapixels(one[1]) >= 2.9), [*images.items()][-1])
        for count in (0, 10) if settings.quick else MASKS:
            case = {"image": label, "megapixels": megapixels(image), "against": "masks", "wanted": count}
            # None at all: no score is above this. Else a threshold so low that there are always enough.
            how = {"conf": 0.01, "max_det": count} if count else {"conf": 0.999}
            _measure(settings, record, runners, image, case, how)
    return record


def _measure(
    settings: Settings,
    record: Record,
    runners: dict[str, Runner],
    image: np.ndarray,
    case: dict[str, Any],
    how: dict[str, Any],
) -> None:
    for runner in runners.values():
        runner.ask("show", images=[image])
    ours = runners["ours_onnxruntime"].ask("segment", **how)
    dense = ours["count"] * image.shape[0] * image.shape[1]
    timed = list(runners.values()) if dense <= LARGEST_DENSE_BYTES else [runners["ours_onnxruntime"]]
    if len(timed) < len(runners):
        record.skip(f"ultralytics, {case['image']}, {ours['count']} masks", f"dense masks of {dense / 1e9:.1f} GB")
        # The best few are compared all the same.
        how_compared = {**how, "max_det": max(1, int(LARGEST_DENSE_BYTES / image.shape[0] / image.shape[1]))}
    else:
        how_compared = how
    _require_same(runners, how_compared, str(case))
    times = in_turn(timed, settings.runs(RUNS), settings.seconds, **how)
    pixels = runners["ours_onnxruntime"].ask("box_pixels")["box_pixels"]
    more = {"masks": ours["count"], "box_pixels": pixels}
    for name, ms in times.items():
        times[name] = [
            {**{stage: one[stage] for stage in STAGES}, "around": one["before"] + one["after"]} for one in ms
        ]
        record.row(runners[name].contender, case, times[name], **more)
    if "ultralytics" in times:
        pairs = list(zip(times["ultralytics"], times["ours_onnxruntime"], strict=True))
        values = {what: [theirs[what] / own[what] for theirs, own in pairs] for what in ("total", "around")}
        record.ratio(case, runners["ultralytics"].contender, runners["ours_onnxruntime"].contender, values)


def _require_same(runners: dict[str, Runner], how: dict[str, Any], what: str) -> None:
    if "ultralytics" not in runners:
        return
    answers = {name: runner.ask("segment", masks=True, **how)["masks"] for name, runner in runners.items()}
    require_same(answers["ours_onnxruntime"], answers["ultralytics"], what)
