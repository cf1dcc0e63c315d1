"""The machine, and what it can do at best: the floor under every time that the suite measures."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from math import prod
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.system.cpu import name_and_flags
from fastsam_deploy.runtime.system.digest import sha256_of_file
from fastsam_deploy.runtime.system.packages import version_of

from ..photographs import ROOT
from .libraries import clean_environment, math_libraries

PACKAGES = {
    "opencv-python": "cv2",
    **{name: name for name in ("fastsam-deploy", "numpy", "onnxruntime", "openvino", "torch", "ultralytics")},
}
"""Name in the results → module."""

_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
KINDS = {
    "amx": {"amx_bf16", "amx_int8"},
    "avx512-bf16": {"avx512_vnni", "avx512_bf16"},
    "avx512-vnni": {"avx512_vnni"},
    "avx512": {"avx512f"},
    "avx2": {"avx2"},
}
"""Kind → flags that it has, newest first."""

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
narrow = {}
gflops = {"numpy": 2 * side**3 / best_s(lambda: np.matmul(a, b, out=product)) / 1e9}
try:
    if not with_torch:
        raise ImportError
    import torch
    torch.set_num_threads(threads)
    c, d = torch.from_numpy(a), torch.from_numpy(b)
    def rate(x, y, product):
        return 2 * side**3 / best_s(lambda: product(x, y)) / 1e9
    gflops["torch"] = rate(c, d, torch.mm)
    narrow["bf16"] = rate(c.bfloat16(), d.bfloat16(), torch.mm)
    narrow["int8"] = rate((100 * c).to(torch.int8), (100 * d).to(torch.int8), torch._int_mm)
except ImportError:
    pass
parts = [np.zeros((2, megabytes * (1 << 20) // threads), np.uint8) for _ in range(threads)]
with ThreadPoolExecutor(threads) as pool:
    seconds = best_s(lambda: list(pool.map(lambda part: np.copyto(part[0], part[1]), parts)))
copied = 2 * sum(part[0].nbytes for part in parts)  # read once, written once
print(json.dumps({"gflops": gflops, "narrow": narrow, "gb_per_s": copied / seconds / 1e9}))
"""


def kind_of(flags: Iterable[str]) -> str:
    """The kind of a processor: its newest instructions that networks gain from. Results are kept by it.

    Example:
        >>> kind_of(["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]), kind_of(["avx2"]), kind_of(["neon"])
        ('avx512-bf16', 'avx2', 'other')
    """
    held = set(flags)
    return next((kind for kind, needed in KINDS.items() if needed <= held), "other")


def kind_here() -> str:
    """The kind of this machine's processor."""
    return kind_of(name_and_flags()[1])


def environment(threads: Sequence[int], *, quick: bool, unset: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What results depend on, and the peak of the machine at each number of threads, measured now.

    Args:
        threads: numbers of threads.
        quick: a rough peak.
        unset: variables that would have steered libraries, and were taken out.
    """
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
        "math_libraries": math_libraries(),
        "unset_variables": dict(unset or {}),
        "demo_model": demo_model(),
    }
    return {**machine, "peak": {str(count): peak(count, quick=quick) for count in threads}}


def demo_model() -> str:
    """The first digits of the SHA-256 of the demo model's checkpoint."""
    with (ROOT / "models/fastsam-demo.pt").open("rb") as file:
        return sha256_of_file(file)[:8]


def peak(threads: int, *, quick: bool = False) -> dict[str, float]:
    """Largest FP32 product and largest copy: {"gflops": …, "gb_per_s": …}, the best of several runs and libraries.

    Of BF16 and INT8 products, which PyTorch alone has, "bf16_gflops" and "int8_gflops". In a fresh process that keeps
    to that many processors.
    """
    import json

    side, megabytes = (512, 64) if quick else (2048, 256)
    allowed = sorted(os.sched_getaffinity(0))[:threads]
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(threads), str(side), str(megabytes), str(int(not quick))],
        env=clean_environment(threads),
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    narrow = {f"{precision}_gflops": round(rate, 1) for precision, rate in found["narrow"].items()}
    return {"gflops": round(max(found["gflops"].values()), 1), **narrow, "gb_per_s": round(found["gb_per_s"], 1)}


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
