"""Settings that are handed on whole, checked once when they are made: of an engine, and of what is kept of it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from operator import index
from pathlib import Path
from typing import SupportsIndex

from .errors import DeviceError, ParameterError

HINTS = ("latency", "throughput")
MOST_THREADS = 4096
"""More threads than this are a mistake, and some engines would try to start them."""

_DEVICE = re.compile(r"cpu|cuda(?::[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How a network is opened.

    Each engine refuses the settings that it does not have (`refuse_settings`); none is replaced by another value.

    Example:
        >>> EngineSettings(device="cuda:0").given()
        {'device': 'cuda:0'}

    Attributes:
        device: "cpu", "cuda" or "cuda:N". The one asked for is used, or there is an error.
        threads: CPU threads of the network, 1 to 4096; None: as many as this process may use.
        engine: name of the engine that runs the file; None: the usual one for such files that is installed.
        precision: of the arithmetic, such as "fp32" or "bf16": that one is used, or there is an error. None: the
            engine's own. ONNX Runtime computes in what the file holds; OpenVINO in BF16 on processors with AMX or
            AVX-512 BF16, in FP32 on others, and `description["precision"]` says which.
        hint: "latency": all threads work on one run (None: this); "throughput": several runs at once, on fewer threads
            each (OpenVINO).
        cache: keep the network as the engine has prepared it for this processor, so that it opens sooner the next
            time: True: in a file beside the model, or the path of a folder. `description["cache"]` says what came of
            it; a folder that cannot be written is no error.

    Raises:
        DeviceError: device is not the name of one.
        ParameterError: another value is out of its range or of another type.
    """

    device: str = "cpu"
    threads: int | None = None
    engine: str | None = None
    precision: str | None = None
    hint: str | None = None
    cache: bool | str | Path = False

    def __post_init__(self) -> None:
        if not isinstance(self.device, str) or _DEVICE.fullmatch(self.device) is None:
            raise DeviceError(f"device is {self.device!r}, expected 'cpu', 'cuda' or 'cuda:N'")
        if self.threads is not None:
            object.__setattr__(self, "threads", _checked_threads(self.threads))
        for name in ("engine", "precision"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ParameterError(f"{name} is {value!r}, expected its name, or None for the usual one")
        if self.hint is not None and self.hint not in HINTS:
            raise ParameterError(f"hint is {self.hint!r}, expected one of {', '.join(HINTS)}, or None")
        if not isinstance(self.cache, bool) and (not isinstance(self.cache, (str, os.PathLike)) or self.cache == ""):
            raise ParameterError(f"cache is {self.cache!r}, expected True, False or a folder that exists")

    def given(self) -> dict[str, object]:
        """Name and value of the settings that differ from the defaults."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(_DEFAULTS, name)}


def _checked_threads(threads: SupportsIndex) -> int:
    try:
        count = 0 if isinstance(threads, bool) else index(threads)
    except TypeError:
        count = 0
    if not 1 <= count <= MOST_THREADS:
        raise ParameterError(f"threads is {threads}, expected a whole number from 1 to {MOST_THREADS}, or None for all")
    return count


_DEFAULTS = EngineSettings()


def refuse_settings(settings: EngineSettings, source: str, reason: str, has: Collection[str] = ()) -> None:
    """Raise if a setting is given that an engine does not have.

    Example:
        >>> refuse_settings(EngineSettings(threads=2), "model.onnx", "it has its own:", {"threads"})

    Args:
        source: what the message calls the model.
        reason: why the engine has none of them; "leave … out" follows.
        has: names of the settings that the engine has.

    Raises:
        ParameterError: names the settings.
    """
    refused = {name: value for name, value in settings.given().items() if name not in has}
    if refused:
        values = ", ".join(f"{name} is {value!r}" for name, value in refused.items())
        raise ParameterError(f"{source}: {values}; {reason} leave {', '.join(refused)} out")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which detections are kept.

    Example:
        >>> Thresholds(conf=0.25)
        Thresholds(conf=0.25, iou=0.9, max_det=300)

    Attributes:
        conf: keep detections with a score above it, [0, 1).
        iou: of two boxes that overlap more than this, the better stays, (0, 1].
        max_det: keep at most this many of an image, best first.

    Raises:
        ParameterError: a value is out of its range.
    """

    conf: float = 0.4
    iou: float = 0.9
    max_det: int = 300

    def __post_init__(self) -> None:
        if not 0 <= self.conf < 1:
            raise ParameterError(f"conf is {self.conf}, expected 0 ≤ conf < 1")
        if not 0 < self.iou <= 1:
            raise ParameterError(f"iou is {self.iou}, expected 0 < iou ≤ 1")
        if not 1 <= self.max_det < float("inf") or int(self.max_det) != self.max_det:
            raise ParameterError(f"max_det is {self.max_det}, expected a whole number of 1 or more")
