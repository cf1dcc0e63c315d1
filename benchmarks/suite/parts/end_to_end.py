"""Part "end_to_end": image in, segments out, per stage, one image and batches, all contenders, 1 and 2 threads.

With the demo model (n): its detections are real. For s and x the report adds their networks' times to what is around.
Single images are segmented at a low threshold, of which the best MASKS are kept; what the contenders answer is compared
without that limit, as scores in fewer digits change who is among the best.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from ..contenders import STAGES, Runner, in_turn, mean_overlap, require_same, running
from ..records import Record, Settings, megapixels, photograph_sizes, segmenters, variants
from ..workers import Contender

MEGAPIXELS = (0.65, 3.0)
CONF, MASKS = 0.25, 60
BATCH = 4
RUNS = 11


def measure(settings: Settings) -> Record:
    """Rows: case {image, megapixels, threads, batch}, "masks", "worst_iou"; ratios "total" and "around"."""
    record = Record(settings={"conf": CONF, "max_det": MASKS})
    for threads in settings.threads[-1:] if settings.quick else settings.threads:
        field = record.available(_contenders(settings, threads))
        # One thread is the smaller case: half of the photographs and a third of the rounds.
        whole = threads == max(settings.threads)
        photographs = None if whole and not settings.quick else 1
        images = photograph_sizes(settings.photographs, settings.megapixels(MEGAPIXELS), photographs)
        runs = settings.runs(RUNS if whole else 4)
        with running(field) as runners:
            for label, image in images.items():
                _measure(settings, record, runners, label, image, runs)
            _measure_batch(settings, record, runners, runs)
    return record


def _contenders(settings: Settings, threads: int) -> list[Contender]:
    found = {**segmenters(settings, threads), **variants(settings, threads)}
    plain = replace(
        found["ultralytics"], name="ultralytics_default", title="ultralytics, PyTorch, default¹", retina=False
    )
    name, title = "ultralytics_as_it_comes", "ultralytics, PyTorch, retina_masks, threads as it comes²"
    as_it_comes = replace(found["ultralytics"], name=name, title=title, as_it_comes=True)
    more = [plain, as_it_comes] if threads > 1 else [plain]  # on one processor it takes one thread
    return [*found.values()] if settings.quick else [*found.values(), *more]


def _measure(
    settings: Settings, record: Record, runners: dict[str, Runner], label: str, image: np.ndarray, runs: int
) -> None:
    """Correct first; then in turn."""
    for runner in runners.values():
        runner.ask("show", images=[image])
    # Masks at network size have no equal here: what they are is checked in no way.
    comparable = {name: runner for name, runner in runners.items() if runner.contender.retina}
    answers = {name: runner.ask("segment", masks=True, conf=CONF) for name, runner in comparable.items()}
    reference = answers["ultralytics"]["masks"]
    likeness = {
        name: {
            "worst_iou": require_same(answer["masks"], reference, f"{label}, {name}", runners[name].precision),
            "mean_iou": mean_overlap(answer["masks"], reference),
        }
        for name, answer in answers.items()
    }
    limits = {"conf": CONF, "max_det": MASKS}
    counts = {name: runner.ask("segment", **limits)["count"] for name, runner in runners.items()}
    used = {name: runner.require_threads() for name, runner in runners.items()}
    # Twice the time of other cases: these are the figures that count most.
    times = in_turn(list(runners.values()), runs, 2 * settings.seconds, **limits)
    threads = next(iter(runners.values())).contender.threads
    case = {"image": label, "megapixels": megapixels(image), "threads": threads, "batch": 1}
    pixels = runners["ours_onnxruntime"].ask("box_pixels")["box_pixels"]
    more = {"box_pixels": pixels, "compared": len(reference)}
    for name, ms in times.items():
        stages = [{**{stage: one[stage] for stage in STAGES}, "around": one["before"] + one["after"]} for one in ms]
        times[name] = stages
        more |= {"masks": counts[name], "precision": runners[name].precision, "library_threads": used[name]}
        record.row(runners[name].contender, case, stages, **more, **likeness.get(name, {}))
    _add_ratios(record, case, runners, times, ("total", "around"))


def _measure_batch(settings: Settings, record: Record, runners: dict[str, Runner], runs: int) -> None:
    """As many images as BATCH in one call; the photographs and their mirror images."""
    sizes = settings.megapixels(MEGAPIXELS)[:1]
    images = list(photograph_sizes(settings.photographs, sizes).values())
    images = (images + [np.ascontiguousarray(image[:, ::-1]) for image in images])[:BATCH]
    for runner in runners.values():
        runner.ask("show", images=images)
    counts = {name: runner.ask("batch")["counts"] for name, runner in runners.items()}
    exact = {name: found for name, found in counts.items() if runners[name].precision == "fp32"}
    if any(found != counts["ultralytics"] for found in exact.values()):
        sys.exit(f"batch of {len(images)}: numbers of masks differ, nothing was timed: {counts}")
    times = in_turn(list(runners.values()), runs, settings.seconds, "batch")
    threads = next(iter(runners.values())).contender.threads
    case = {
        "image": f"{len(images)} photographs",
        "megapixels": megapixels(images[0]),
        "threads": threads,
        "batch": len(images),
    }
    for name, ms in times.items():
        precision = runners[name].precision
        record.row(runners[name].contender, case, ms, masks=sum(counts[name]), precision=precision)
    _add_ratios(record, case, runners, times, ("total",))


def _add_ratios(
    record: Record, case: dict[str, Any], runners: dict[str, Runner], times: dict[str, list[Any]], what: tuple[str, ...]
) -> None:
    field = [runner.contender for runner in runners.values()]
    for ours in (one for one in field if one.ours):
        for other in (one for one in field if not one.ours):
            pairs = list(zip(times[other.name], times[ours.name], strict=True))
            record.ratio(case, other, ours, {key: [theirs[key] / own[key] for theirs, own in pairs] for key in what})
