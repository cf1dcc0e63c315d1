"""The machine, and what it can do at best: the floor under every time that the suite measures."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from math import prod
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.system.cpu import name_and_flags
from fastsam_deploy.runtime.system.packages import version_of

PACKAGES = {
    "opencv-python": "cv2",
    **{name: name for name in ("fastsam-deploy", "numpy", "onnxruntime", "openvino", "torch", "ultralytics")},
}
"""Name in the results → module."""

_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

_PEAK = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
threads, side, megabytes, with_torch = map(int, sys.argv[1:])
def best_s(work, times=7):
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)
a, b = np.random.default_rng(0).random((2, side, side), np.float32)
product = np.empty_like(a)
gflops = {"numpy": 2 * side**3 / best_s(lambda: np.matmul(a, b, out=product)) / 1e9}
try:
    if not with_torch:
        raise ImportError
    import torch
    torch.set_num_threads(threads)
    c, d = torch.from_numpy(a), torch.from_numpy(b)
    gflops["torch"] = 2 * side**3 / best_s(lambda: torch.mm(c, d)) / 1e9
except ImportError:
    pass
parts = [np.zeros((2, megabytes * (1 << 20) // threads), np.uint8) for _ in range(threads)]
with ThreadPoolExecutor(threads) as pool:
    seconds = best_s(lambda: list(pool.map(lambda part: np.copyto(part[0], part[1]), parts)))
copied = 2 * sum(part[0].nbytes for part in parts)  # read once, written once
print(json.dumps({"gflops": gflops, "gb_per_s": copied / seconds / 1e9}))
"""


def environment(threads: Sequence[int], *, quick: bool) -> dict[str, Any]:
    """What results depend on, and the peak of the machine at each number of threads, measured now."""
    name, flags = name_and_flags()
    machine = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "cpu": name,
        "processors": len(os.sched_getaffinity(0)),
        "cpu_flags": [flag for flag in _CPU_FLAGS if flag in flags],
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {package: version_of(module) for package, module in PACKAGES.items()},
    }
    return {**machine, "peak": {str(count): peak(count, quick=quick) for count in threads}}


def peak(threads: int, *, quick: bool = False) -> dict[str, float]:
    """Largest FP32 product and largest copy: {"gflops": …, "gb_per_s": …}, the best of several runs and libraries.

    In a fresh process that keeps to that many processors.
    """
    import json

    side, megabytes = (512, 64) if quick else (2048, 256)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    allowed = sorted(os.sched_getaffinity(0))[:threads]
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(threads), str(side), str(megabytes), str(int(not quick))],
        env={**os.environ, **dict.fromkeys(names, str(threads))},
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    return {"gflops": round(max(found["gflops"].values()), 1), "gb_per_s": round(found["gb_per_s"], 1)}


def network_operations(path: Path, shape: tuple[int, int, int, int]) -> int:
    """Floating-point operations of one run: twice the multiplications of all convolutions and matrix products.

    Args:
        path: an ONNX file.
        shape: (b, 3, H, W) of its input.

    The weighted mean over the bins of a box side is left out: its size is known only when the network runs, and it is
    less than a ten thousandth of the whole.
    """
    import onnx

    model = onnx.load(path)
    for given, side in zip(model.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        given.Clear()
        given.dim_value = side
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sizes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.value_info, *graph.output, *graph.input]:
        sides = value.type.tensor_type.shape.dim
        sizes[value.name] = [side.dim_value if side.HasField("dim_value") else 0 for side in sides]
    total = 0
    for node in graph.node:
        if node.op_type not in {"Conv", "ConvTranspose", "MatMul", "Gemm"}:
            continue
        given, weights, made = sizes[node.input[0]], sizes[node.input[1]], sizes[node.output[0]]
        if not prod(made):
            if node.op_type == "Conv" and weights[0] == 1:  # the mean over the bins
                continue
            sys.exit(f"{path.name}: the size of {node.output[0]} ({node.op_type}) is not known; export it again")
        # Each value that is made (of a transposed convolution: each that is given) meets all but the first axis.
        total += {
            "Conv": prod(made) * prod(weights[1:]),
            "ConvTranspose": prod(given) * prod(weights[1:]),
            "MatMul": prod(made) * given[-1],
            "Gemm": prod(made) * given[-1],
        }[node.op_type]
    return 2 * total
