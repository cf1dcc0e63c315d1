"""A model file, opened and run once in a process with limits before it is opened here.

A changed bit in a file of a megabyte can make an engine ask for gigabytes, when it folds constants or when it runs, and
no engine has a limit for that. What ends in the child within the limits takes no more the second time. The child has no
limit of its own: OpenVINO does without what it is refused, and would take it here. Its memory is looked at instead.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from .. import errors
from ..errors import ModelError, ParameterError
from ..isolation.limits import Limits, end_first, peak_bytes
from ..isolation.process import LimitedProcess
from ..isolation.questions import Questions, ends_after
from ..network import TensorInfo
from ..settings import EngineSettings
from .interface import Network
from .opening import open_file
from .registry import engine_for
from .reopening import state_of
from .tensors import spec_of_network

_VERB, _ADVICE = ("opening", "opens"), "use another file, or open it without try_first if you trust it"
_USUAL_SIDE = 1024
_OTHER_SIDE = 64
_BYTES_PER_PIXEL = 1024
"""Of the network's input. FastSAM-x takes half of all that together, the demo model a tenth."""


_PASSED: set[tuple[object, EngineSettings, int | None]] = set()


def limits_for(path: Path, imgsz: int | None) -> Limits:
    """Generous limits, by what the user asks for and not by what the file says of itself.

    Example:
        >>> limits_for(Path("absent.onnx"), imgsz=None)
        Limits(seconds=120.0, memory_bytes=2147483648)
    """
    size = path.stat().st_size if path.is_file() else 0
    pixels = (imgsz or _USUAL_SIDE) ** 2
    memory_bytes = (1 << 30) + 8 * size + _BYTES_PER_PIXEL * pixels
    return Limits(120.0 + size / 1e6, memory_bytes)


def try_file(
    path: Path, settings: EngineSettings, imgsz: int | None = None, *, limits: Limits | None = None
) -> EngineSettings:
    """Open a file and run it once in a process with limits. A file that has passed is not tried again by this process.

    Args:
        path: of the file.
        settings: to open it with.
        imgsz: side of the input that it is run on, pixels; None: that of the model.
        limits: None: see `limits_for`.

    Returns:
        The settings to open it with here.

    Raises:
        ModelError: a limit is exceeded, or the engine ends its process.
        FastSamError: what opening or running it raises.

    Example:
        >>> settings = try_file(Path("FastSAM-s.onnx"), EngineSettings(try_first=True))  # doctest: +SKIP
    """
    entry = engine_for(path, settings)
    if settings.device != "cpu":
        raise ParameterError(
            f"{path.name}: try_first with device {settings.device!r}, whose libraries take more address space than "
            "any limit; try it on device 'cpu' first"
        )
    entry.load(path.name, settings.device)
    again = replace(settings, try_first=False)
    limits, trial = limits or limits_for(path, imgsz), (state_of(path), again, imgsz)
    if trial in _PASSED:
        return again
    child = LimitedProcess(__name__, [str(path), {**asdict(again), "cache": False}, imgsz, limits.seconds])
    with child.within(limits, str(path), _VERB, _ADVICE, ModelError):
        child.wait_until_ready()
        most_bytes = child.resident_bytes + limits.memory_bytes
        child.ask({})
        answer = child.answer(monotonic() + limits.seconds, most_bytes)
        if answer.get("peak_bytes", 0) > most_bytes:
            raise MemoryError
    child.stop()
    if "error" in answer:
        raise getattr(errors, answer["kind"], ModelError)(answer["error"])
    _PASSED.add(trial)
    return again


def serve(path: str, settings: dict[str, Any], imgsz: int | None, seconds: float) -> None:
    """What the child does: it opens the file and runs it once.

    Args:
        path: of the file.
        settings: fields of `EngineSettings`.
        imgsz: see `try_file`.
        seconds: see `Limits`.
    """
    questions, opened = Questions(), EngineSettings(**settings)
    end_first()
    engine_for(Path(path), opened).load(path, opened.device)
    for _ in questions:
        with questions.answered_errors(path, _ADVICE):
            with ends_after(seconds):
                _run_once(open_file(Path(path), opened), imgsz)
            questions.answer({"peak_bytes": peak_bytes()})


def _run_once(network: Network, imgsz: int | None) -> None:
    """On an input of zeros: of the given side for a segmentation network, on a small one for others."""
    try:
        spec = spec_of_network(network)
    except ModelError:
        side = _OTHER_SIDE
    else:
        side = imgsz or spec.imgsz
    feed = {tensor.name: np.zeros(_shape(tensor, side), tensor.dtype) for tensor in network.inputs}
    network.run(feed, [tensor.name for tensor in network.outputs])


def _shape(tensor: TensorInfo, side: int) -> tuple[int, ...]:
    batch, *sides = tensor.shape or (1,)
    return (batch or 1, *(side if length is None else length for length in sides))
