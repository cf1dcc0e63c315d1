"""The same build with trtexec, for machines without TensorRT's Python package, or to see the settings of the build."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...runtime.engines.tensorrt.record import ShapeRange
from ..errors import ExportError
from .settings import BuildSettings

PROGRAM = "/usr/src/tensorrt/bin/trtexec"
"""Its path in NVIDIA's images."""


def trtexec_command(
    model: Path,
    plan: Path,
    image_input: str,
    profiles: Sequence[ShapeRange],
    settings: BuildSettings,
    major: int,
    *,
    dynamic: bool = True,
    device: int = 0,
    verbose: bool = False,
    program: str = "trtexec",
) -> list[str]:
    """Program and arguments that build what `plan_from_onnx` builds.

    Args:
        model, plan: the ONNX file and the plan.
        image_input: name of the input that the profiles are for.
        profiles: input shapes.
        settings: of the builder.
        major: version of TensorRT. 10 needs a flag to keep the types of the file; 11 always keeps them and has no such
            flag.
        dynamic: the model has a side or a batch that varies; others have no profiles.
        device: number of the GPU.
        verbose: let trtexec print TensorRT's log.
        program: path of trtexec.

    Example:
        >>> trtexec_command(Path("a.onnx"), Path("a.plan"), "images", (), BuildSettings(), 11)[:3]
        ['trtexec', '--onnx=a.onnx', '--saveEngine=a.plan']
    """
    command = [program, f"--onnx={model}", f"--saveEngine={plan}", "--skipInference", f"--device={device}"]
    if major < 11:
        command.append("--stronglyTyped")
    for i, shapes in enumerate(profiles if dynamic else ()):
        if len(profiles) > 1:
            command.append(f"--profile={i}")
        for name in ("min", "opt", "max"):
            shape = "x".join(map(str, getattr(shapes, name)))
            command.append(f"--{name}Shapes={image_input}:{shape}")
    command.append("--profilingVerbosity=detailed")
    if not settings.tf32:
        command.append("--noTF32")
    if settings.workspace_gib is not None:
        command.append(f"--memPoolSize=workspace:{round(settings.workspace_gib * 1024)}M")
    if settings.version_compatible:
        command.append("--versionCompatible")
    if settings.hardware_compatible:
        command.append("--hardwareCompatibilityLevel=ampere+")
    if settings.optimization_level is not None:
        command.append(f"--builderOptimizationLevel={settings.optimization_level}")
    if settings.timing_cache is not None:
        command.append(f"--timingCacheFile={settings.timing_cache}")
    if verbose:
        command.append("--verbose")
    return command


def find_trtexec() -> str:
    """Find trtexec.

    Raises:
        ExportError: it is not installed.

    Example:
        >>> find_trtexec()  # doctest: +SKIP
        '/usr/src/tensorrt/bin/trtexec'
    """
    program = PROGRAM if Path(PROGRAM).exists() else shutil.which("trtexec")
    if program is None:
        raise ExportError(
            f"trtexec: found neither {PROGRAM} nor one on the path; run this in NVIDIA's TensorRT or Triton image, or "
            "leave --trtexec out"
        )
    return program


def major_of(program: str) -> int:
    """Version of TensorRT that trtexec belongs to, 10 or 11: the help of 11 no longer lists --fp16.

    Raises:
        ExportError: it does not run.

    Example:
        >>> major_of(find_trtexec())  # doctest: +SKIP
        10
    """
    done = subprocess.run([program, "--help"], check=False, capture_output=True, text=True, errors="replace")
    if "--onnx" not in done.stdout:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise ExportError(f"{program} --help ended with {done.returncode} and is not trtexec's: {last[:200]}")
    return 10 if "--fp16" in done.stdout else 11


def run_trtexec(command: Sequence[str], model: Path, plan: Path) -> None:
    """Run trtexec, whose output is shown.

    Args:
        command: see `trtexec_command`.
        model, plan: the ONNX file and the plan.

    Raises:
        ExportError: it ended with an error, or without a plan.

    Example:
        >>> run_trtexec(command, Path("fastsam.onnx"), Path("fastsam.plan"))  # doctest: +SKIP
    """
    done = subprocess.run(command, check=False)
    if done.returncode != 0 or not plan.is_file() or not plan.stat().st_size:
        raise ExportError(f"{model}: trtexec ended with {done.returncode} and no plan; its report above says why")
