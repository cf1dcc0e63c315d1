"""How a plan is built, by whichever program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import ParameterError

_LEVELS = range(6)


@dataclass(frozen=True)
class BuildSettings:
    """How to build; what is None is left to TensorRT.

    Attributes:
        workspace_gib: memory that a layer may use for scratch.
        timing_cache: file with timings of layers, read where it is there and written after the build.
        version_compatible: later versions of TensorRT run the plan too.
        hardware_compatible: every GPU from compute capability 8.0 on runs the plan.
        optimization_level: 0 (built fastest) to 5 (runs fastest).
        tf32: FP32 products may be computed with 10 bits of mantissa, as TensorRT does by itself.
    """

    workspace_gib: float | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    optimization_level: int | None = None
    tf32: bool = False

    def __post_init__(self) -> None:
        if self.workspace_gib is not None and not 0 < self.workspace_gib < 1024:
            raise ParameterError(f"workspace is {self.workspace_gib} GiB, expected more than 0")
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise ParameterError(f"optimization level is {self.optimization_level}, expected 0 to {_LEVELS[-1]}")

    @property
    def options(self) -> tuple[str, ...]:
        """As the command line takes them; the timing cache is left out, which changes nothing in what is built."""
        found: list[str] = []
        if self.workspace_gib is not None:
            found += ["--workspace", f"{self.workspace_gib:g}"]
        found += ["--version-compatible"] * self.version_compatible
        found += ["--hardware-compatible"] * self.hardware_compatible
        if self.optimization_level is not None:
            found += ["--optimization-level", str(self.optimization_level)]
        found += ["--tf32"] * self.tf32
        return tuple(found)
