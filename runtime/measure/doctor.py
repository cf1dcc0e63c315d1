"""What is installed here, which engines and devices really work, and why the others do not."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from .. import __version__
from ..errors import FastSamError, MissingDependencyError
from ..settings import EngineSettings
from ..system.cpu import name_and_flags, usable_cpus

_PACKAGES = (
    "numpy", "opencv-python", "opencv-python-headless", "pillow", "pycocotools", "onnxruntime", "onnxruntime-gpu",
    "openvino", "tensorrt", "pycuda", "cuda-bindings", "tritonclient", "tokenizers", "supervision", "torch",
    "ultralytics",
)  # fmt: skip
# Those that decide how fast a network runs on a CPU.
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
_BF16_FLAGS = frozenset(("amx_bf16", "avx512_bf16"))
_PROBE_SIDE = 320
_ENGINES = {
    ".onnx": (("onnxruntime", "cpu"), ("openvino", "cpu"), ("onnxruntime", "cuda")),
    ".plan": (("tensorrt", "cuda"),),
    ".engine": (("tensorrt", "cuda"),),
}


def examine(model: Path | None = None) -> dict[str, Any]:
    """Look at this machine; engines are tried by running a network.

    Args:
        model: file to try, None for the demo model; its ending says which engines are tried.

    Returns:
        Plain JSON values: versions, cpu, engines (each with `works` and `reason`), libraries, model (None if there
        is none to look at).
    """
    suffix = ".onnx" if model is None else model.suffix
    engines = [_try_engine(model, name, device) for name, device in _ENGINES.get(suffix, _ENGINES[".onnx"])]
    return {
        "fastsam_deploy": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": {name: _installed(name) for name in _PACKAGES},
        "cpu": _cpu(),
        "engines": engines,
        "libraries": [_try_library(name, look) for name, look in _LIBRARIES.items()],
        "model": _describe_model(model, engines),
    }


def lines(report: dict[str, Any]) -> list[str]:
    """A report of `examine` for people."""
    cpu, model = report["cpu"], report["model"] or {"path": "none could be opened"}
    cores = f"{cpu['cores']}; usable by this process {cpu['usable']} (affinity {cpu['affinity']}"
    cores += f", cgroup limit {cpu['cgroup_limit']})" if cpu["cgroup_limit"] else ", no lower cgroup limit)"
    sections: dict[str, dict[str, Any]] = {
        "Versions": {
            "fastsam-deploy": report["fastsam_deploy"],
            "python": report["python"],
            "system": report["system"],
            **{name: found for name, found in report["packages"].items() if found},
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
    return text


def _verdict(row: dict[str, Any]) -> str:
    return f"works: {row['detail']}" if row["works"] else f"no: {row['reason']}"


def _try_engine(model: Path | None, name: str, device: str) -> dict[str, Any]:
    """Open the model on the device and run it once."""
    row: dict[str, Any] = {
        "name": f"{name} {device}",
        "works": False,
        "detail": None,
        "reason": None,
        "spec": None,
    }
    try:
        # Here, because a missing OpenCV is one of the things to find out.
        from ..engines import open_engine
        from ..pipeline import demo_model_path

        engine = open_engine(model or demo_model_path(), EngineSettings(device, engine=name))
    except FastSamError as error:
        return {**row, "reason": f"{error}{_worth_it(error, name)}"}
    except ImportError as error:
        return {**row, "reason": f"{error}; run: pip install 'fastsam-deploy[cpu]'"}
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
    if name == "openvino" and precision == "bf16":
        detail += " (its own choice on this processor; precision='fp32' switches it off)"
    return {**row, "works": True, "detail": detail, "ms": round(ms, 2), "spec": asdict(engine.spec)}


def _worth_it(error: FastSamError, name: str) -> str:
    if name == "openvino" and isinstance(error, MissingDependencyError) and name_and_flags()[1] & _BF16_FLAGS:
        return "; it uses this processor's BF16 units, ONNX Runtime does not"
    return ""


def _openvino() -> str:
    core = import_module("openvino").Core()
    return f"devices {', '.join(core.available_devices)}; the engine uses CPU"


def _tensorrt() -> str:
    return f"TensorRT {import_module('tensorrt').__version__}; opens .plan and .engine files on device 'cuda'"


def _nvidia_driver() -> str:
    """Ask the driver itself; needs no CUDA package."""
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


_LIBRARIES: dict[str, Callable[[], str]] = {
    "openvino": _openvino,
    "tensorrt": _tensorrt,
    "nvidia driver": _nvidia_driver,
}
_EXTRA = {"openvino": "openvino", "tensorrt": "trt"}


def _try_library(name: str, look: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"name": name, "works": True, "detail": look(), "reason": None}
    except ModuleNotFoundError as error:
        reason = f"not installed ({error}); run: pip install 'fastsam-deploy[{_EXTRA[name]}]'"
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        reason = str(error)
    return {"name": name, "works": False, "detail": None, "reason": reason}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
        # Of the two limits the lower counts; this is the container's where it is the one.
        "cgroup_limit": usable if usable < affinity else None,
        "flags": [flag for flag in _FLAGS if flag in flags],
    }


def _describe_model(model: Path | None, engines: list[dict[str, Any]]) -> dict[str, Any] | None:
    try:
        from ..pipeline import demo_model_path

        path = model or demo_model_path()
        content = path.read_bytes()
    except (FastSamError, ImportError, OSError):  # the engines' rows say why
        return None
    spec = next((engine["spec"] for engine in engines if engine["spec"]), None) or {}
    return {"path": str(path), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **spec}
