"""What is installed, which engines and devices work, and why the others do not."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from .. import __version__
from ..engines import registry
from ..engines.registry import EngineEntry, engines_for
from ..errors import ONE_OPENCV, FastSamError, MissingDependencyError, one_onnx_runtime, opencv_fault, pip_install
from ..native import library as native
from ..settings import EngineSettings
from ..system.cpu import name_and_flags, usable_cpus
from ..system.packages import BUILDS, builds_of
from ..weights.demo import demo_model_path

_PACKAGES = (
    "numpy", *BUILDS["cv2"], "pillow", "pycocotools", *BUILDS["onnxruntime"], "openvino", "tensorrt", "pycuda",
    "cuda-bindings", "tritonclient", "tokenizers", "supervision", "torch", *BUILDS["ultralytics"],
)  # fmt: skip
_REPAIRS = {
    "cv2": ONE_OPENCV,
    "onnxruntime": f"{one_onnx_runtime('gpu')}; without an NVIDIA GPU 'cpu' in the place of 'gpu'",
    "ultralytics": f"pip uninstall -y {' '.join(BUILDS['ultralytics'])} && {pip_install('export')}",
}
"""Module → what leaves one build of it."""

# The processor features that decide how fast a network runs.
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "sve",
)
_PROBE_SIDE = 320
_DEVICES = ("cpu", "cuda")


def examine(model: Path | None = None) -> dict[str, Any]:
    """Examine this machine. Each engine is tried by running a network.

    Args:
        model: file to try; None for the demo model. Its suffix decides which engines are tried.

    Returns:
        Plain JSON values: versions, warnings about them, cpu, engines (each with `works` and `reason`), libraries, and
        model (None if it cannot be read).

    Example:
        >>> report = examine()  # doctest: +SKIP
        >>> [engine["name"] for engine in report["engines"] if engine["works"]]  # doctest: +SKIP
        ['onnxruntime cpu', 'openvino cpu']
    """
    entries = engines_for(".onnx" if model is None else model.suffix) or engines_for(".onnx")
    tried = [(entry, device) for device in _DEVICES for entry in entries if entry.runs_on(device)]
    engines = [_try_engine(model, entry, device) for entry, device in tried]
    packages = {name: _installed(name) for name in _PACKAGES}
    return {
        "fastsam_deploy": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": packages,
        "warnings": _warnings(packages),
        "cpu": _cpu(),
        "engines": engines,
        "libraries": [row for entry in registry.ENGINES if (row := _try_library(entry))]
        + [_try_driver(), _try_native()],
        "model": _describe_model(model, engines),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """Format a report of `examine` as lines of text.

    Example:
        >>> print(*lines(examine()), sep="\\n")  # doctest: +SKIP
    """
    cpu, model = report["cpu"], report["model"] or {"path": "none could be opened"}
    cores = f"{cpu['cores']}; usable by this process {cpu['usable']} (affinity {cpu['affinity']}"
    cores += f", cgroup limit {cpu['cgroup_limit']})" if cpu["cgroup_limit"] else ", no lower cgroup limit)"
    sections: dict[str, dict[str, Any]] = {
        "Versions": {
            "fastsam-deploy": report["fastsam_deploy"],
            "python": report["python"],
            "system": report["system"],
            **{name: number for name, number in report["packages"].items() if number},
        },
        "Processor": {"model": cpu["model"], "cores": cores, "flags": " ".join(cpu["flags"]) or "none of interest"},
        "Engines": {row["name"]: _verdict(row) for row in report["engines"]},
        "Libraries": {row["name"]: _verdict(row) for row in report["libraries"]},
        "Model": {name: value for name, value in model.items() if value not in (None, {})},
    }
    text = []
    for title, rows in sections.items():
        width = max(map(len, rows))
        text += [title, *(f"  {name:{width}}  {value}" for name, value in rows.items())]
    return text + [f"Warning: {warning}" for warning in report["warnings"]]


def _warnings(packages: Mapping[str, str | None]) -> list[str]:
    """Faults of the installation itself."""
    warnings = []
    for module, names in BUILDS.items():
        builds = [f"{name} {packages[name]}" for name in names if packages[name]]
        if len(builds) > 1:
            warnings.append(
                f"{' and '.join(builds)} are both installed; they overwrite each other's files, and after an update of "
                f"one {module} may not load, or be the other one; run: {_REPAIRS[module]}"
            )
    return warnings


def _verdict(row: dict[str, Any]) -> str:
    return f"works: {row['detail']}" if row["works"] else f"no: {row['reason']}"


def _try_engine(model: Path | None, entry: EngineEntry, device: str) -> dict[str, Any]:
    """Open the model on the device and run it once."""
    row: dict[str, Any] = {
        "name": f"{entry.name} {device}",
        "works": False,
        "detail": None,
        "reason": None,
        "spec": None,
    }
    try:
        # OpenCV may be missing, without which nothing but the network runs, and the report should say so.
        import_module("cv2")
        from ..engines import open_engine

        engine = open_engine(model or demo_model_path(), EngineSettings(device, engine=entry.name))
    except FastSamError as error:
        return {**row, "reason": f"{error}{_gain_of(error, entry)}"}
    except ImportError as error:
        return {**row, "reason": opencv_fault(error) or f"{error}; run: {pip_install('cpu')}"}
    try:
        height, width = engine.spec.fixed_hw or (_PROBE_SIDE, _PROBE_SIDE)
        blob = np.full((engine.spec.batch or 1, 3, height, width), 0.5, np.float32)
        engine.run(blob)
        start = perf_counter()
        engine.run(blob)
        ms = (perf_counter() - start) * 1000
    except (FastSamError, RuntimeError) as error:
        return {**row, "reason": f"opens, but fails to run: {error}"}
    finally:
        engine.close()
    precision = engine.spec.precision
    detail = f"{ms:.0f} ms for {len(blob)} × {height}×{width} pixels in {precision}"
    if engine.description.get("precision") == "bf16":
        detail += " (the engine's choice on this processor; precision='fp32' switches it off)"
    return {**row, "works": True, "detail": detail, "ms": round(ms, 2), "spec": asdict(engine.spec)}


def _gain_of(error: FastSamError, entry: EngineEntry) -> str:
    """What installing the engine would gain on this processor, for the end of a message."""
    missing = isinstance(error, MissingDependencyError)
    return f"; {entry.gain}" if missing and name_and_flags()[1] & entry.made_for else ""


def _nvidia_driver() -> str:
    """GPUs and version, from the driver itself, which needs no CUDA package."""
    name_of_library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name_of_library)
    except OSError as error:
        raise OSError(f"no NVIDIA driver ({error}); install one if there is an NVIDIA GPU") from error
    status = driver.cuInit(0)
    if status:
        raise OSError(f"cuInit gave CUDA error {status}; run nvidia-smi to see why")
    number, count, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(96)
    driver.cuDriverGetVersion(ctypes.byref(number))
    driver.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for device in range(count.value):
        driver.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace"))
    supports = f"CUDA {number.value // 1000}.{number.value % 1000 // 10}"
    return f"{', '.join(names) or 'no GPU'}; the driver supports {supports}"


def _try_driver() -> dict[str, Any]:
    try:
        return _library_row("nvidia driver", detail=_nvidia_driver())
    except (OSError, AttributeError) as error:
        return _library_row("nvidia driver", reason=str(error))


def _try_library(entry: EngineEntry) -> dict[str, Any] | None:
    """What the module of an engine reports about its library; None if it has no `probe`."""
    try:
        module = entry.load(entry.name, next(iter(entry.extras)))
        return _library_row(entry.name, detail=module.probe()) if hasattr(module, "probe") else None
    except MissingDependencyError as error:
        return _library_row(entry.name, reason=f"not installed ({error.__cause__}); {str(error).rpartition('; ')[2]}")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return _library_row(entry.name, reason=str(error))


def _try_native() -> dict[str, Any]:
    """The compiled code for masks; where it is absent NumPy does its work."""
    name = "compiled masks"
    try:
        if native.library() is not None:
            return _library_row(name, detail=native.state())
    except FastSamError as error:
        return _library_row(name, reason=str(error))
    reason = f"{native.state()}: the same masks, but several times slower"
    if os.environ.get(native.VARIABLE) != "0":
        reason += "; install a C++ compiler, then this package again (pip install --force-reinstall --no-deps)"
    return _library_row(name, reason=reason)


def _library_row(name: str, *, detail: str | None = None, reason: str | None = None) -> dict[str, Any]:
    return {"name": name, "works": detail is not None, "detail": detail, "reason": reason}


def _installed(package: str) -> str | None:
    return builds_of(package).get(package)


def _cpu() -> dict[str, Any]:
    name, flags = name_and_flags()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    usable = usable_cpus()
    return {
        "model": name,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "affinity": affinity,
        "usable": usable,
        # The lower of the two limits applies; this is that of the container if it is the lower.
        "cgroup_limit": usable if usable < affinity else None,
        "flags": [flag for flag in _FLAGS if flag in flags],
    }


def _describe_model(model: Path | None, engines: list[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        path = model or demo_model_path()
        content = path.read_bytes()
    except (FastSamError, OSError):  # the rows of the engines give the reason
        return None
    spec = next((engine["spec"] for engine in engines if engine["spec"]), None) or {}
    return {"path": str(path), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **spec}
