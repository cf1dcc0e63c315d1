"""The ways to run a model that are worth measuring on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from ..engines.registry import EngineEntry, engines_for
from ..measure.run import ModelArgument
from ..system.cpu import name_and_flags, usable_cpus

_ENGINE_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


@dataclass(frozen=True)
class Axes:
    """What is varied. Empty tuples stand for what this machine has.

    Attributes:
        engines: names of engines.
        threads: CPU threads of the network.
        imgsz: longest sides of the input, pixels; empty: that of the model alone.

    Example:
        >>> Axes(engines=("onnxruntime",), threads=(1, 2)).threads
        (1, 2)
    """

    engines: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    imgsz: tuple[int, ...] = ()


def installed_engines() -> tuple[str, ...]:
    """Names of the engines of this environment that run ONNX files on a processor.

    Example:
        >>> installed_engines()  # doctest: +SKIP
        ('onnxruntime', 'openvino')
    """
    return tuple(entry.name for entry in _entries() if find_spec(entry.library) is not None)


def candidates_for(model: Path, int8: Mapping[str, Path], axes: Axes) -> list[ModelArgument]:
    """The ways to run a model: engine, precision, threads, size of the input. The first is the reference.

    The reference is the model itself in ONNX Runtime, or in the only engine there is, in FP32, with all processors, at
    its own size.

    Args:
        model: an `.onnx` file.
        int8: engine → the same network in INT8, as that engine computes it fastest.
        axes: what is varied.

    Example:
        >>> [way.name for way in candidates_for(Path("m.onnx"), {}, Axes(("onnxruntime",), (1, 2)))]
        ['ONNX Runtime fp32', 'ONNX Runtime fp32, 1 thread', 'ONNX Runtime fp32, 2 threads']
    """
    engines = axes.engines or installed_engines()
    reference = ModelArgument(_name(engines[0], "fp32"), str(model), _settings(engines[0], "fp32"))
    listed = {reference.name: reference}
    for engine in engines:
        for source, precision in _networks(engine, model, int8.get(engine)):
            for threads, imgsz in product(axes.threads or (None,), axes.imgsz or (None,)):
                settings = _settings(engine, precision, threads, imgsz)
                way = ModelArgument(_name(engine, precision, threads, imgsz), str(source), settings)
                listed.setdefault(way.name, way)
    return list(listed.values())


def _entries() -> list[EngineEntry]:
    return [entry for entry in engines_for(".onnx") if entry.runs_on("cpu")]


def default_threads() -> tuple[int, ...]:
    """Threads to try: where there are many processors, half of them too, as those may share cores.

    Returns:
        Empty where only all processors are worth a try.

    Example:
        >>> default_threads()  # doctest: +SKIP
        (8, 16)
    """
    cpus = usable_cpus()
    return () if cpus < 4 else (cpus // 2, cpus)


def same_results(ways: Sequence[ModelArgument]) -> dict[str, list[ModelArgument]]:
    """Ways that give the same masks, because only their threads differ: name of the first → all of them.

    Example:
        >>> groups = same_results(candidates_for(Path("m.onnx"), {}, Axes(("onnxruntime",), (1, 2))))
        >>> [len(ways) for ways in groups.values()]
        [3]
    """
    groups: dict[tuple[Any, ...], list[ModelArgument]] = {}
    for way in ways:
        key = (way.source, *sorted((name, value) for name, value in way.settings.items() if name != "threads"))
        groups.setdefault(key, []).append(way)
    return {ways[0].name: ways for ways in groups.values()}


def int8_target(engine: str) -> str:
    """For which target `fastsam-export quantize` makes the INT8 file that an engine computes fastest on this processor.

    Example:
        >>> int8_target("openvino")
        'openvino'
    """
    if engine == "openvino":
        return "openvino"
    return "vnni" if name_and_flags()[1] & {"avx_vnni", "avx512_vnni"} else "cpu"


def _networks(engine: str, model: Path, int8: Path | None) -> Iterator[tuple[Path, str]]:
    """Files and precisions."""
    yield model, "fp32"
    if engine == "openvino":
        flags = name_and_flags()[1]
        if any(entry.name == engine and entry.made_for & flags for entry in _entries()):  # it has BF16 units
            yield from ((model, "bf16"), (model, "mixed"))
    if int8 is not None:
        yield int8, "int8"


def _settings(engine: str, precision: str, threads: int | None = None, imgsz: int | None = None) -> dict[str, Any]:
    settings = {"engine": engine, "threads": threads, "imgsz": imgsz}
    if engine == "openvino":  # it may compute in less than the file holds
        settings["precision"] = precision if precision in ("bf16", "mixed") else "fp32"
    return {name: value for name, value in settings.items() if value is not None}


def _name(engine: str, precision: str, threads: int | None = None, imgsz: int | None = None) -> str:
    name = f"{_ENGINE_NAMES.get(engine, engine)} {precision}"
    if threads is not None:
        name += f", {threads} thread{'s' if threads != 1 else ''}"
    return name + (f", imgsz {imgsz}" if imgsz is not None else "")
