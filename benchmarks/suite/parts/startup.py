"""Part "startup": from a command to its first answer, in fresh processes taken in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..libraries import clean_environment
from ..records import Record, Settings, segmenters
from ..workers import Contender

RUNS = 5
COMMAND = "ours_command"
"""Our command in a terminal, until it ends; of the others the answer is in memory."""
CACHED = "_cached"
"""After the name of a contender that keeps its prepared network."""
STEPS = ("import", "open", "first", "second", "until_answer")

_TAIL = """
done = time.monotonic()
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
marks = [float(sys.argv[1]), imported, opened, answered, done]
steps = [(b - a) * 1000 for a, b in zip(marks, marks[1:])]
ms = dict(zip(("import", "open", "first", "second"), steps)) | {"until_answer": (answered - marks[0]) * 1000}
print(json.dumps({"ms": ms, "masks": count, "peak_mb": peak}))
"""
_OURS = (
    """
import json, sys, time
from fastsam_deploy.runtime import FastSAM
imported = time.monotonic()
_, _, source, engine, image, imgsz, threads, cache = sys.argv
model = FastSAM(source, engine=engine, imgsz=int(imgsz), threads=int(threads), cache=cache or False)
opened = time.monotonic()
count = len(model.segment(image))
answered = time.monotonic()
model.segment(image)
"""
    + _TAIL
)
_ULTRALYTICS = (
    """
import json, sys, time
from ultralytics import FastSAM
import torch
imported = time.monotonic()
_, _, source, _, image, imgsz, threads, _ = sys.argv
torch.set_num_threads(int(threads))
model = FastSAM(source)
opened = time.monotonic()
settings = dict(retina_masks=True, device="cpu", verbose=False, imgsz=int(imgsz), conf=0.4, iou=0.9)
count = len(model(image, **settings)[0])
answered = time.monotonic()
model(image, **settings)
"""
    + _TAIL
)

_TIMER = """
import json, os, subprocess, sys, time
start = time.monotonic()
process = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(process.pid, 0)
ms = (time.monotonic() - start) * 1000
print(json.dumps({"ms": ms, "peak_mb": used.ru_maxrss / 1024}))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a command. It is small: to Linux, the peak of a process includes the memory of the one that started it."""


def measure(settings: Settings) -> Record:
    """Rows: case {image}, steps in "ms", "masks", "peak_mb"; ratios "until_answer" of ultralytics over ours."""
    record = Record()
    field = record.available(segmenters(settings, max(settings.threads)).values())
    if settings.quick:
        field = [one for one in field if one.ours]
    ours = [one for one in field if one.ours]
    field += [replace(one, name=f"{one.name}{CACHED}", title=f"{one.title}, cache") for one in ours]
    field += [replace(one, name=COMMAND, title="ours, `fastsam segment`") for one in ours[:1]]
    image = sorted(settings.photographs.glob("*.jpg"))[0]
    answers: dict[str, list[dict[str, Any]]] = {one.name: [] for one in field}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(settings.runs(RUNS) + 1):
            shift = run % len(field)
            for one in field[shift:] + field[:shift]:
                start = _start_command if one.name == COMMAND else _start
                answers[one.name].append(start(one, str(image), folder if one.name.endswith(CACHED) else ""))
    masks = {name: found[0]["masks"] for name, found in answers.items()}
    # The masks themselves are compared in the other parts; one process in fewer digits may have one more or less.
    if min(masks.values()) < 0.95 * max(masks.values()):
        sys.exit(f"{image.name}: numbers of masks differ: {masks}")
    case = {"image": image.name}
    # The first reads the disk, and writes the caches.
    times = {name: [one["ms"] for one in found[1:]] for name, found in answers.items()}
    for one in field:
        peak = max(found["peak_mb"] for found in answers[one.name])
        record.row(one, case, times[one.name], masks=masks[one.name], peak_mb=round(peak, 1))
    for ours in (one for one in field if one.ours):
        for other in (one for one in field if not one.ours):
            pairs = zip(times[other.name], times[ours.name], strict=True)
            ratios = [theirs["until_answer"] / own["until_answer"] for theirs, own in pairs]
            record.ratio(case, other, ours, {"until_answer": ratios})
    return record


def _start_command(one: Contender, image: str, _: str) -> dict[str, Any]:
    """In the end there is a file of JSON; the process that started the command says what that took."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.jsonl"
        command = [sys.executable, "-m", "fastsam_deploy.runtime.cli", "segment", image, "--json", str(answer)]
        options = ["--model", one.source, "--imgsz", str(one.imgsz), "--threads", str(one.threads), "--quiet"]
        timed = [sys.executable, "-c", _TIMER, *command, *options]
        done = subprocess.run(timed, env=clean_environment(one.threads), stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{one.name} failed with code {done.returncode}; see above")
        used = json.loads(done.stdout)
        segments = json.loads(answer.read_text(encoding="utf-8"))["segments"]
    return {"ms": {"until_answer": used["ms"]}, "masks": len(segments), "peak_mb": used["peak_mb"]}


def _start(one: Contender, image: str, cache: str) -> dict[str, Any]:
    code = _OURS if one.ours else _ULTRALYTICS
    arguments = [one.source, str(one.engine), image, str(one.imgsz), str(one.threads), cache]
    allowed = sorted(os.sched_getaffinity(0))[: one.threads]
    start = time.monotonic()  # of the system: the same clock in every process
    done = subprocess.run(
        [sys.executable, "-c", code, str(start), *arguments],
        env=clean_environment(one.threads),
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{one.name} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
