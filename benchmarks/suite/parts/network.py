"""Part "network": the networks alone, sizes n, s and x, every engine, 1 and 2 threads."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..contenders import Runner, in_turn, running
from ..machine import network_operations
from ..models import SIZES
from ..records import Record, Settings, contenders, photograph_sizes, variants
from ..workers import Contender

RUNS = {"n": 15, "s": 9, "x": 3}
LARGEST_DIFFERENCE = {"fp32": 1e-3, "fp16": 0.02, "bf16": 0.1}
"""Of an output from PyTorch's, as a part of the output's own largest value."""


def measure(settings: Settings) -> Record:
    """Rows: case {size, threads, input}; ratios "network" of ultralytics over ours."""
    record = Record()
    for size in SIZES[:1] if settings.quick else SIZES:
        for threads in settings.threads[-1:] if settings.quick else settings.threads:
            field = record.available(contenders(settings, size, threads).values())
            if size == "n":
                field += record.available(variants(settings, threads).values())
            _measure(settings, record, size, threads, field)
    return record


def _measure(settings: Settings, record: Record, size: str, threads: int, field: list[Contender]) -> None:
    blob = _blob(settings)
    case = {"size": size, "threads": threads, "input": list(blob.shape)}
    operations = network_operations(settings.models.path(size, "onnx"), blob.shape)
    # One thread and the largest network: as few rounds as give a median.
    wanted = 2 if (size, threads) == ("x", 1) else RUNS[size]
    with running(field) as runners:
        differences = _differences(runners, blob, str(case))
        times = in_turn(list(runners.values()), settings.runs(wanted), settings.seconds, "network")
        for name, ms in times.items():
            more = {
                "precision": runners[name].precision,
                "worst_difference": differences.get(name),
                "gflop": round(operations / 1e9, 2),
            }
            record.row(runners[name].contender, case, ms, **more)
    milliseconds = {name: [one["network"] for one in ms] for name, ms in times.items()}
    for ours in (one for one in field if one.ours):
        for other in (one for one in field if not one.ours):
            pairs = zip(milliseconds[other.name], milliseconds[ours.name], strict=True)
            record.ratio(case, other, ours, {"network": [theirs / own for theirs, own in pairs]})


def _blob(settings: Settings) -> np.ndarray:
    """(1, 3, H, W) float32 of a photograph."""
    from fastsam_deploy.runtime.stages.letterbox import fit, letterbox

    (image,) = photograph_sizes(settings.photographs, [0.65], names=1).values()
    return letterbox(image, fit(image.shape[:2], settings.input_hw))[None]


def _differences(runners: dict[str, Runner], blob: np.ndarray, what: str) -> dict[str, float]:
    """Of every contender's outputs from those of PyTorch; ends the program where they are too large.

    Outputs of undecoded files are others; the part "end_to_end" compares their masks.
    """
    outputs = {name: runner.ask("network", blob=blob, outputs=True)["outputs"] for name, runner in runners.items()}
    reference = _values(outputs["ultralytics"])
    comparable = {name: runner for name, runner in runners.items() if "undecoded" not in runner.contender.title}
    found = {}
    for name, runner in comparable.items():
        own = _values(outputs[name])
        found[name] = max(
            float(np.abs(own[key] - reference[key]).max() / np.abs(reference[key]).max()) for key in reference
        )
        allowed = LARGEST_DIFFERENCE[runner.precision]
        if not found[name] <= allowed:
            sys.exit(f"{what}: outputs of {name} are {found[name]:.2g} away from PyTorch's, expected {allowed}")
        found[name] = float(f"{found[name]:.2g}")
    return found


def _values(outputs: list[np.ndarray]) -> dict[str, Any]:
    detections, prototypes = outputs
    return {
        "boxes": detections[:, :4],
        "scores": detections[:, 4:-32],
        "coefficients": detections[:, -32:],
        "prototypes": prototypes,
    }
