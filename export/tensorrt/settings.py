"""How a plan is built, by TensorRT's Python package or by trtexec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import ParameterError

_LEVELS = range(6)


@dataclass(frozen=True)
class BuildSettings:
    """Settings of the builder; what is None is left to TensorRT.

    Attributes:
        workspace_gib: scratch memory that a layer may use, GiB.
        timing_cache: file with timings of layers; read if it exists, and written after the build.
        version_compatible: later versions of TensorRT can run the plan too.
        hardware_compatible: every GPU from compute capability 8.0 on can run the plan.
        optimization_level: 0 (builds fastest) to 5 (runs fastest).
        tf32: FP32 products may be computed with 10 bits of mantissa, which is TensorRT's default.
        gpus: compute capabilities that TensorRT for RTX builds for, such as "sm86"; () with TensorRT itself, which
            builds for the GPU here.

    Example:
        >>> BuildSettings(workspace_gib=2, tf32=True).options
        ('--workspace', '2', '--tf32')
    """

    workspace_gib: float | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    optimization_level: int | None = None
    tf32: bool = False
    gpus: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.workspace_gib is not None and not 0 < self.workspace_gib < 1024:
            raise ParameterError(f"workspace is {self.workspace_gib} GiB, expected more than 0")
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise ParameterError(f"optimization level is {self.optimization_level}, expected 0 to {_LEVELS[-1]}")

    @property
    def options(self) -> tuple[str, ...]:
        """As options of the command line, without the timing cache, which does not change the plan."""
        options: list[str] = []
        if self.workspace_gib is not None:
            options += ["--workspace", f"{self.workspace_gib:g}"]
        options += ["--version-compatible"] * self.version_compatible
        options += ["--hardware-compatible"] * self.hardware_compatible
        if self.optimization_level is not None:
            options += ["--optimization-level", str(self.optimization_level)]
        options += ["--tf32"] * self.tf32
        if self.gpus:
            options += ["--gpu", ",".join(self.gpus)]
        return tuple(options)
