"""The libraries under the contenders: which versions compute, on how many threads, and what steers them from outside.

Variables such as OPENBLAS_CORETYPE or ONEDNN_MAX_CPU_ISA choose other kernels than users get. They are taken out of the
environment of every measured process, and the results say which ones were set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_FAMILIES = (
    *("OPENBLAS_", "GOTO_", "MKL_", "BLIS_", "ONEDNN_", "DNNL_", "OMP_", "GOMP_", "KMP_", "TBB_", "ATEN_", "TORCH_"),
    *("NPY_", "OPENCV_", "ORT_", "OV_", "OPENVINO_", "MALLOC_"),
)
_OTHERS = {"FASTSAM_NATIVE", "GLIBC_TUNABLES", "LD_PRELOAD", "PYTHONDONTWRITEBYTECODE"}
"""Of an installed package the bytecode is there; without it each start of a checkout would compile it again."""

_REPORT = """
import json, re
found = {}
def note(name, look):
    try:
        found[name] = look()
    except Exception:
        found[name] = None
def openblas():
    import ctypes
    import numpy
    with open("/proc/self/maps") as maps:
        path = next(line.split()[-1] for line in maps if "openblas" in line)
    library = ctypes.CDLL(path)
    names = [p + "openblas_get_config" + s for p in ("scipy_", "") for s in ("64_", "")]
    ask = getattr(library, next(name for name in names if hasattr(library, name)))
    ask.restype = ctypes.c_char_p
    return ask().decode()
def torch(pattern):
    import torch
    return re.search(pattern, torch.__config__.show())[1]
def opencv(pattern):
    import cv2
    return re.search(pattern, cv2.getBuildInformation())[1]
note("OpenBLAS of NumPy", openblas)
note("MKL of PyTorch", lambda: torch(r"Math Kernel Library Version (\\S+)"))
note("oneDNN of PyTorch", lambda: torch(r"MKL-DNN v(\\S+)"))
note("instructions of PyTorch", lambda: __import__("torch").backends.cpu.get_cpu_capability())
note("IPP of OpenCV", lambda: opencv(r"Intel IPP:\\s+(\\S+)"))
print(json.dumps(found))
"""
_ONEDNN_OF_OPENVINO = """
import numpy as np, openvino as ov
x = ov.opset8.parameter([1, 8, 8, 8], np.float32)
y = ov.opset8.convolution(x, np.ones((8, 8, 3, 3), np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
ov.Core().compile_model(ov.Model([y], [x]), "CPU")(np.ones((1, 8, 8, 8), np.float32))
"""


def steering(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that choose kernels, threads or memory of the libraries.

    Example:
        >>> steering({"OPENBLAS_CORETYPE": "Haswell", "HOME": "/root"})
        {'OPENBLAS_CORETYPE': 'Haswell'}
    """
    return {name: value for name, value in environment.items() if name.startswith(_FAMILIES) or name in _OTHERS}


def clean_environment(threads: int, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a measured process: nothing steers the libraries but the number of threads.

    Example:
        >>> clean_environment(1, {"OPENBLAS_CORETYPE": "Haswell"})["OMP_NUM_THREADS"]
        '1'
    """
    kept = {name: value for name, value in environment.items() if name not in steering(environment)}
    count = str(threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    # Ultralytics would install what it misses, in the middle of a measurement.
    return {**kept, **dict.fromkeys(names, count), "YOLO_AUTOINSTALL": "false"}


@contextmanager
def measured_environment(threads: int) -> Iterator[None]:
    """Processes that start in the block have a clean environment."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(clean_environment(threads, before))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def math_libraries() -> dict[str, str]:
    """Versions of the libraries that multiply matrices, as they are loaded here; those that say none are left out."""
    environment = clean_environment(1)
    done = subprocess.run([sys.executable, "-c", _REPORT], env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    verbose = {**environment, "ONEDNN_VERBOSE": "1"}
    command = [sys.executable, "-c", _ONEDNN_OF_OPENVINO]
    said = subprocess.run(command, env=verbose, capture_output=True, text=True, check=False).stdout
    lines = [line.partition("oneDNN v")[2].split(" ")[0] for line in said.splitlines() if "info,oneDNN v" in line]
    found["oneDNN of OpenVINO"] = lines[0] if lines else None
    return {name: text for name, text in found.items() if text}
