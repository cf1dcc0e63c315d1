"""Settings of engines, and thresholds for detections. Both are values that are checked when they are made."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass, fields
from numbers import Real
from operator import index
from pathlib import Path
from typing import SupportsIndex

from .documents import quoted
from .errors import DeviceError, ParameterError

HINTS = ("latency", "throughput")
SEARCHES = ("heuristic", "exhaustive")
MOST_THREADS = 4096
"""A larger number of threads is a mistake, and some engines would try to start them."""

_DEVICE = re.compile(r"cpu|cuda(?::[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How to open a network.

    Each engine refuses the settings that it does not support (`refuse_settings`); no setting is replaced by another
    value.

    Example:
        >>> EngineSettings(device="cuda:0").given()
        {'device': 'cuda:0'}

    Attributes:
        device: "cpu", "cuda" or "cuda:N". It is never replaced by another device; if it cannot be used, there is an
            error.
        threads: CPU threads of the network, 1 to 4096; None: as many as this process may use.
        engine: name of the engine that runs the file; None: the first installed one for such files.
        precision: precision of the arithmetic, such as "fp32" or "bf16"; if the engine cannot compute in it, there is
            an error. None: the default of the engine. ONNX Runtime computes in the precision of the file,
            on a GPU also FP32 files in "tf32", which is faster and less accurate. OpenVINO
            computes in BF16 on processors with AMX or AVX-512 BF16, in FP32 on others; see `description["precision"]`.
            "mixed" is BF16 with the first layers and the ends of the head in FP32: nearer to FP32, a tenth slower.
        hint: "latency" (also for None): all threads work on one run; "throughput": several runs at once, each on fewer
            threads (OpenVINO).
        cache: keep the network as prepared by the engine for this processor, so that it opens faster next time. True:
            in a file beside the model; or the path of a folder. `description["cache"]` has the result; a folder that
            cannot be written is not an error.
        search: how ONNX Runtime chooses cuDNN's algorithms on a GPU. "heuristic" (also for None): by a table, at once.
            "exhaustive": by trying all of them for each new shape of the input, which takes seconds for each and may
            run faster afterwards.
        try_first: for files of strangers, on a CPU: open the file and run it once in a process of its own, with limits
            of time and memory, before it is opened here. Takes more than twice as long.

    Raises:
        DeviceError: device is not the name of a device.
        ParameterError: another value is out of range or of the wrong type.
    """

    device: str = "cpu"
    threads: int | None = None
    engine: str | None = None
    precision: str | None = None
    hint: str | None = None
    cache: bool | str | Path = False
    search: str | None = None
    try_first: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.device, str) or _DEVICE.fullmatch(self.device) is None:
            raise DeviceError(f"device is {quoted(self.device)}, expected 'cpu', 'cuda' or 'cuda:N'")
        if self.threads is not None:
            object.__setattr__(self, "threads", _checked_threads(self.threads))
        for name in ("engine", "precision"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ParameterError(f"{name} is {quoted(value)}, expected a name, or None for the default")
        if self.hint is not None and not (isinstance(self.hint, str) and self.hint in HINTS):
            raise ParameterError(f"hint is {quoted(self.hint)}, expected one of {', '.join(HINTS)}, or None")
        if self.search is not None and self.search not in SEARCHES:
            raise ParameterError(f"search is {self.search!r}, expected one of {', '.join(SEARCHES)}, or None")
        if not isinstance(self.try_first, bool):
            raise ParameterError(f"try_first is {quoted(self.try_first)}, expected True or False")
        if not isinstance(self.cache, bool) and (not isinstance(self.cache, (str, os.PathLike)) or self.cache == ""):
            raise ParameterError(f"cache is {quoted(self.cache)}, expected True, False or a folder that exists")

    def given(self) -> dict[str, object]:
        """Names and values of the settings that differ from the defaults."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(_DEFAULTS, name)}


def _checked_threads(threads: SupportsIndex) -> int:
    try:
        count = 0 if isinstance(threads, bool) else index(threads)
    except TypeError:
        count = 0
    if not 1 <= count <= MOST_THREADS:
        raise ParameterError(
            f"threads is {threads!s:.60}, expected a whole number from 1 to {MOST_THREADS}, or None for all"
        )
    return count


_DEFAULTS = EngineSettings()


def refuse_settings(settings: EngineSettings, source: str, reason: str, has: Collection[str] = ()) -> None:
    """Refuse settings that an engine does not support.

    Example:
        >>> refuse_settings(EngineSettings(threads=2), "a.plan", "a plan runs on a GPU;")
        Traceback (most recent call last):
        fastsam_deploy.runtime.errors.ParameterError: a.plan: threads is 2; a plan runs on a GPU; leave threads out

    Args:
        settings: all settings.
        source: the model, for the message.
        reason: why the engine does not support them; "leave … out" follows in the message.
        has: names of the settings that the engine supports.

    Raises:
        ParameterError: a setting without support differs from its default.
    """
    refused = {name: value for name, value in settings.given().items() if name not in has}
    if refused:
        values = ", ".join(f"{name} is {value!r}" for name, value in refused.items())
        raise ParameterError(f"{source}: {values}; {reason} leave {', '.join(refused)} out")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Which detections to keep.

    Example:
        >>> Thresholds(conf=0.25)
        Thresholds(conf=0.25, iou=0.9, max_det=300)

    Attributes:
        conf: keep detections with a score above it, [0, 1).
        iou: of two boxes that overlap more than this, keep the better one, (0, 1].
        max_det: keep at most this many detections of an image, best first.

    Raises:
        ParameterError: a value is out of range.
    """

    conf: float = 0.4
    iou: float = 0.9
    max_det: int = 300

    def __post_init__(self) -> None:
        for name in ("conf", "iou", "max_det"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ParameterError(f"{name} is {quoted(value)}, expected a number")
        if not 0 <= self.conf < 1:
            raise ParameterError(f"conf is {self.conf}, expected 0 ≤ conf < 1")
        if not 0 < self.iou <= 1:
            raise ParameterError(f"iou is {self.iou}, expected 0 < iou ≤ 1")
        if not 1 <= self.max_det < float("inf") or int(self.max_det) != self.max_det:
            raise ParameterError(f"max_det is {self.max_det}, expected a whole number of 1 or more")
