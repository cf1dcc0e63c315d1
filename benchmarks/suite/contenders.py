"""Contenders: each in a process of its own under one parent, asked in turn, so that a slow moment hits all of them.

Thread pools and memory of the contenders do not mix, and no library of one is loaded in the process of another.
A contender is shown images (which is not timed) and then asked to segment them, as often as wanted.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from .libraries import measured_environment
from .workers import Contender, worker_of

STAGES = ("before", "network", "after", "total")
LEAST = {"mixed": (0.95, 0.98), "bf16": (0.95, 0.97), "fp16": (0.95, 0.98), "int8": (0.9, 0.94)}
"""Precision → share of masks that must have a partner, and the mean overlap of those that have."""
_SETTLE_S = 0.02
"""Waited before a contender is asked: thread pools of the one before still spin for some milliseconds."""


class Runner:
    """The parent's end of a contender's process."""

    def __init__(self, contender: Contender) -> None:
        context = multiprocessing.get_context("spawn")
        self.contender = contender
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(contender, theirs), daemon=True)
        with measured_environment(contender.threads):
            self._process.start()
        theirs.close()  # so that a dead child ends the wait
        self.description: dict[str, Any] = self._answer()

    @property
    def precision(self) -> str:
        """Of the network's arithmetic, as the engine or the file says; "fp32" where neither does."""
        return str(self.description.get("precision") or "fp32")

    def require_threads(self) -> dict[str, int]:
        """Threads that each library of the contender uses, once it has run. Ends the program where they are others.

        OpenCV may have fewer: ultralytics switches its threads off.
        """
        used: dict[str, int] = self.ask("library_threads")
        wanted = self.contender.threads
        wrong = {name: count for name, count in used.items() if count > wanted or (count < wanted and name != "cv2")}
        if wrong and not self.contender.as_it_comes:
            sys.exit(f"{self.contender.name}: threads are {wrong}, expected {wanted}; nothing was timed")
        return used

    def ask(self, request: str, **arguments: Any) -> dict[str, Any]:
        """What the contender's method of that name answers. Ends the program where the contender failed."""
        if request in {"segment", "batch", "network"}:
            time.sleep(_SETTLE_S)
        self._pipe.send((request, arguments))
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()

    def _answer(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._pipe.recv()
        except EOFError:
            self._process.join()
            sys.exit(f"{self.contender.name}: its process ended (code {self._process.exitcode}); out of memory?")
        if "error" in answer:
            sys.exit(f"{self.contender.name} failed:\n{answer['error']}")
        return answer


@contextmanager
def running(contenders: Sequence[Contender]) -> Iterator[dict[str, Runner]]:
    """Processes of all contenders, started one after the other, by name."""
    with ExitStack() as stack:
        runners = {}
        for contender in contenders:
            runners[contender.name] = runner = Runner(contender)
            stack.callback(runner.close)
        yield runners


def in_turn(
    runners: Sequence[Runner], runs: int, seconds: float, request: str = "segment", **arguments: Any
) -> dict[str, list[dict[str, Any]]]:
    """Rounds, each asking every contender once, in an order that changes; the answers' "ms" by contender.

    Args:
        runs: rounds at most.
        seconds: no round begins after this much time, but at least min(3, runs) are made.
    """
    start = time.perf_counter()
    times: dict[str, list[dict[str, Any]]] = {runner.contender.name: [] for runner in runners}
    for run in range(runs):
        if run >= min(3, runs) and time.perf_counter() - start > seconds:
            break
        shift = run % len(runners)
        for runner in [*runners[shift:], *runners[:shift]]:
            times[runner.contender.name].append(runner.ask(request, **arguments)["ms"])
    return times


def mean_overlap(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """Mean overlap of masks with their best partners, both ways, of those that have one; COCO RLE."""
    best = _best_ious(ours, theirs)
    return round(float(best[best >= 0.5].mean()), 4) if (best >= 0.5).any() else 1.0


def require_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], what: str, precision: str = "fp32") -> float:
    """Least overlap of a mask with its best partner, both ways, COCO RLE; ends the program where answers differ.

    In FP32 the numbers of masks are the same and the overlap at least 0.99. In fewer digits detections near the
    threshold come and go: LEAST says how many must have a partner, with which mean overlap. Times of other answers mean
    nothing.
    """
    if not ours and not theirs:
        return 1.0
    best = _best_ious(ours, theirs)
    worst = round(float(best.min()), 5)
    if precision == "fp32":
        same = len(ours) == len(theirs) and worst >= 0.99
    else:
        paired = best[best >= 0.5]
        partners, overlap = LEAST[precision]
        same = len(paired) >= partners * len(best) and paired.mean() >= overlap
    if not same:
        sys.exit(
            f"{what}: {len(ours)} masks against {len(theirs)}, least overlap {worst}: not the same answer in "
            f"{precision}, nothing was timed"
        )
    return worst


def _best_ious(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> np.ndarray:
    """Of each mask of either side with its best partner on the other; 0 where that has none."""
    from pycocotools import mask as coco

    if not ours or not theirs:
        return np.zeros(len(ours) + len(theirs))
    ious = coco.iou(ours, theirs, [0] * len(theirs))
    return np.concatenate([ious.max(axis=1), ious.max(axis=0)])


def _serve(contender: Contender, parent: Connection) -> None:
    """A contender's process: answers requests until the parent ends it."""
    try:
        _keep_to(contender.threads)
        runner = worker_of(contender)
        parent.send(runner.description)
        while True:
            request, arguments = parent.recv()
            parent.send(getattr(runner, request)(**arguments))
    except EOFError:  # the parent is gone
        return
    except BaseException:
        parent.send({"error": traceback.format_exc()})
        raise


def _keep_to(threads: int) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise ValueError(f"{threads} threads on {len(allowed)} processors; expected at most as many")
    os.sched_setaffinity(0, allowed[:threads])
