"""What every part of the suite gets and gives: settings, rows, ratios, and what was left out and why.

A part writes results/KIND/suite_PART.json:

    part         its name
    environment  machine, versions and the machine's peak (machine.py)
    settings     what the part was run with
    rows         one for each contender and case: "case" (what it is), "runs", "ms" {stage: {median, p95, min, max}},
                 and what else the part measures
    ratios       one for each pair of contenders and case: "case", "of", "over", "values" {what: ratio}; taken round by
                 round, so that a slow moment of the machine is in both numbers
    skipped      [{"what", "why"}]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from fastsam_deploy.runtime.system.cpu import name_and_flags

from ..photographs import RESULTS, photographs
from .machine import KINDS, kind_of
from .models import ModelFiles
from .workers import Contender

OF_ANY_PROCESSOR = ("accuracy", "precisions")
"""Parts whose figures are no times: they lie in the folder of the results itself."""
ASPECT = 4 / 3
"""Photographs are cut to it: all of them then have one network input, 768×1024 at imgsz 1024."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and how long at most.

    Attributes:
        photographs: folder of .jpg and .png files.
        models: where model files come from.
        threads: numbers of threads.
        imgsz: longest side of the network's input.
        seconds: of each case, after which no further round begins.
        quick: everything once and small, to see that it runs; its figures mean nothing.
    """

    photographs: Path
    models: ModelFiles
    threads: tuple[int, ...] = (1, 2)
    imgsz: int = 1024
    seconds: float = 20.0
    quick: bool = False

    def runs(self, wanted: int) -> int:
        """Rounds of a case."""
        return 1 if self.quick else wanted

    def megapixels(self, wanted: Sequence[float]) -> list[float]:
        """Image sizes."""
        return [0.1, 0.2] if self.quick else list(wanted)

    @property
    def input_hw(self) -> tuple[int, int]:
        """(H, W) of the network's input for the photographs."""
        return round(self.imgsz / ASPECT / 32) * 32, self.imgsz


@dataclass
class Record:
    """What a part has found so far."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    ratios: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    """What differs from the suite's own."""

    def row(self, contender: Contender, case: dict[str, Any], ms: Sequence[dict[str, float]], **more: Any) -> None:
        """One contender's times of one case."""
        who = {"contender": contender.name, "title": contender.title, "threads": contender.threads}
        stages = {stage: summary([one[stage] for one in ms]) for stage in ms[0]} if ms else {}
        self.rows.append({"case": case, **who, "runs": len(ms), "ms": stages, **more})

    def ratio(self, case: dict[str, Any], of: Contender, over: Contender, values: dict[str, Sequence[float]]) -> None:
        """Medians of ratios, each taken within a round."""
        medians = {what: round(median(each), 3) for what, each in values.items()}
        self.ratios.append({"case": case, "of": of.name, "over": over.name, "values": medians})

    def available(self, contenders: Iterable[Contender]) -> list[Contender]:
        """Those whose libraries are installed; the others are noted."""
        found = []
        for contender in contenders:
            if contender.missing is None:
                found.append(contender)
            else:
                self.skip(contender.name, f"{contender.missing} is not installed")
        return found

    def skip(self, what: str, why: str) -> None:
        """Note what is not measured."""
        note = {"what": what, "why": why}
        if note not in self.skipped:
            self.skipped.append(note)


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile, least and largest, rounded to 0.01; below 1 to three digits."""
    found = {"median": median(values), "p95": float(np.percentile(values, 95)), "min": min(values), "max": max(values)}
    return {name: round(value, 2) if value >= 1 else float(f"{value:.3g}") for name, value in found.items()}


def contenders(settings: Settings, size: str, threads: int) -> dict[str, Contender]:
    """All that run a network of this size, ours first, by name; their files are made when they are missing."""
    common = {"threads": threads, "imgsz": settings.imgsz}
    files = {kind: str(settings.models.path(size, kind)) for kind in ("onnx", "checkpoint")}
    found = [
        Contender("ours_onnxruntime", "ours, ONNX Runtime", files["onnx"], True, "onnxruntime", **common),
        Contender("ours_openvino", "ours, OpenVINO", files["onnx"], True, "openvino", **common),
        Contender("ultralytics", "ultralytics, PyTorch", files["checkpoint"], **common),
    ]
    if size != "x":  # what its exports of the largest would show, the smaller ones show in a tenth of the time
        for kind, title in (("onnx", "ONNX Runtime"), ("openvino", "OpenVINO")):
            name = f"ultralytics_{kind}"
            contender = Contender(name, f"ultralytics, {title}", f"{name}.{kind}", **common)
            if contender.missing is None and not settings.quick:
                source = str(settings.models.path(size, name))
                contender = Contender(name, f"ultralytics, {title}", source, **common)
            found.append(contender)
    if settings.quick:
        found = [contender for contender in found if contender.name in {"ours_onnxruntime", "ultralytics"}]
    return {contender.name: contender for contender in found}


def segmenters(settings: Settings, threads: int) -> dict[str, Contender]:
    """Contenders of the demo model (n), whose detections are real; their masks have the size of the image."""
    found = contenders(settings, "n", threads)
    return {name: one if one.ours else replace(one, title=f"{one.title}, retina_masks") for name, one in found.items()}


def variants(settings: Settings, threads: int) -> dict[str, Contender]:
    """Ours with other files of the demo model: boxes left to the runtime, and that in INT8.

    Where OpenVINO computes in BF16, also with some layers in FP32.
    """
    if settings.quick:
        return {}
    named = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    found = []
    for engine, title in named.items():
        files = {kind: str(settings.models.path("n", kind)) for kind in ("undecoded", f"int8_{engine}")}
        common = {"ours": True, "engine": engine, "threads": threads, "imgsz": settings.imgsz}
        start = f"ours_{engine}"
        found += [
            Contender(f"{start}_undecoded", f"ours, {title}, undecoded", files["undecoded"], **common),
            Contender(
                f"{start}_int8", f"ours, {title}, undecoded INT8", files[f"int8_{engine}"], precision="int8", **common
            ),
        ]
        if engine == "openvino" and name_and_flags()[1] & {"avx512_bf16", "amx_bf16"}:
            mixed = f"ours, {title}, undecoded, mixed"
            found.append(Contender(f"{start}_mixed", mixed, files["undecoded"], asked_precision="mixed", **common))
    return {contender.name: contender for contender in found}


def photograph_sizes(folder: Path, megapixels: Sequence[float], names: int | None = None) -> dict[str, np.ndarray]:
    """Label → (h, w, 3) uint8 RGB: the photographs, cut to ASPECT in their middle, at each size; the first `names`."""
    cut = {}
    for path, image in list(photographs(folder).items())[:names]:
        height, width = image.shape[:2]
        side_wh = (min(width, round(height * ASPECT)), min(height, round(width / ASPECT)))
        left, top = (width - side_wh[0]) // 2, (height - side_wh[1]) // 2
        cut[path.stem] = image[top : top + side_wh[1], left : left + side_wh[0]]
    found = {}
    for size in megapixels:
        height = round((size * 1e6 / ASPECT) ** 0.5)
        for name, image in cut.items():
            found[f"{name} {round(height * ASPECT)}×{height}"] = enlarged(image, (round(height * ASPECT), height))
    return found


def enlarged(image: np.ndarray, side_wh: tuple[int, int]) -> np.ndarray:
    """The image at another size, cubic."""
    return cv2.resize(image, side_wh, interpolation=cv2.INTER_CUBIC)


def megapixels(image: np.ndarray) -> float:
    """Of an image, rounded to 0.01."""
    return round(image.shape[0] * image.shape[1] / 1e6, 2)


def load_kinds(folder: Path = RESULTS) -> dict[str, dict[str, dict[str, Any]]]:
    """Kind of processor → part → what its file holds; newest kind first, and "" for what no processor changes.

    Files may lie in the folder itself, as those of a run into a folder of its own.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for path in [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]:
        for name, part in load_results(path).items():
            kind = "" if name in OF_ANY_PROCESSOR else kind_of(part["environment"]["cpu_flags"])
            found.setdefault(kind, {})[name] = part
    order = [*KINDS, "other", ""]
    return {kind: found[kind] for kind in sorted(found, key=order.index)}


def load_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Part → what its file holds, for the parts that have one."""
    paths = sorted(folder.glob("suite_*.json"))
    return {path.stem.removeprefix("suite_"): json.loads(path.read_text(encoding="utf-8")) for path in paths}
