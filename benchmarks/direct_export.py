"""Checkpoint to ONNX with and without PyTorch: time and memory of both ways: python -m benchmarks.direct_export FOLDER

Each export runs in a process of its own, from its start to its end, as the command does. In the direct one PyTorch and
ultralytics are hidden, so that nothing is compared with them; the other one compares, as it always does. Times are
given with and without the comparison. Install sizes are those of the packages on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from fastsam_deploy.runtime.system.atomic import write_atomically

from .photographs import ROOT, as_json, processor
from .suite.models import ModelFiles

EXPORTS = {
    "direct": (
        "for name in ('torch', 'torchvision', 'ultralytics'): sys.modules[name] = None\n"
        "from fastsam_deploy.export.direct.to_onnx import export_direct as export\n"
    ),
    "PyTorch": "from fastsam_deploy.export.to_onnx import export_onnx as export\n",
}
CODE = """
import json, resource, sys, time
start, steps = time.perf_counter(), []
{imports}
export(sys.argv[1], sys.argv[2], imgsz=640, step=lambda step: steps.append((step, time.perf_counter() - start)))
end = time.perf_counter() - start
compared = next((at for step, at in steps if step.startswith(("comparing", "running"))), end)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({{"total_s": end, "until_compared_s": compared, "peak_bytes": peak}}))
"""


def measure(way: str, checkpoint: Path, target: Path) -> dict[str, float]:
    """One export."""
    code = CODE.format(imports=EXPORTS[way])
    command = [sys.executable, "-c", code, str(checkpoint), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{way} {checkpoint.name}: {done.stderr[-500:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "file_bytes": target.stat().st_size}


def installed_bytes(names: list[str], without: set[str]) -> tuple[int, list[str]]:
    """Size of packages and of all that they need, but for `without`."""
    waiting, seen, total = list(names), set(without), 0
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        total += sum(path.stat().st_size for each in found.files or () if (path := Path(each.locate())).is_file())
        needs = [text for text in found.requires or () if "extra ==" not in text]
        waiting += ["".join(c if c.isalnum() or c in "-_." else " " for c in text).split()[0] for text in needs]
    return total, sorted(seen - without)


def install_sizes() -> dict[str, Any]:
    """What the two extras add to the runtime with ONNX Runtime and OpenCV."""
    base = ["numpy", "pillow", "pycocotools", "rich", "typer", "onnxruntime", "opencv-python-headless"]
    runtime, names = installed_bytes(base, set())
    direct, _ = installed_bytes(["onnx"], set(names))
    traced, _ = installed_bytes(["torch", "torchvision", "ultralytics", "onnx", "onnxslim", "onnxscript"], set(names))
    return {"runtime_bytes": runtime, "direct_adds_bytes": direct, "export_adds_bytes": traced}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the checkpoints and files that are made")
    parser.add_argument("--sizes", nargs="+", default=["n", "s", "x"])
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/direct_export.json")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    files, rows = ModelFiles(arguments.folder), []
    for size in arguments.sizes:
        checkpoint = files.path(size, "checkpoint")
        for way in EXPORTS:
            found = measure(way, checkpoint, arguments.folder / f"{way}-{size}.onnx")
            rows.append({"size": size, "way": way, "checkpoint_bytes": checkpoint.stat().st_size, **found})
            print(json.dumps(rows[-1]), flush=True)
    document = {"processor": processor(), "processors": os.cpu_count(), "installs": install_sizes(), "exports": rows}
    write_atomically(arguments.output, as_json(document))


if __name__ == "__main__":
    main()
