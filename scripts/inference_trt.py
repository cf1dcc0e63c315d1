"""`Inference.py` on a GPU: the same flags, with a TensorRT plan and every stage on the GPU.

    bash scripts/onnx2trt.sh FastSAM-s.onnx --output FastSAM-s.plan --precision fp16
    python scripts/inference_trt.py --model_path FastSAM-s.plan --img_path dogs.jpg --point_prompt "[[520,360]]"

An `.onnx` file runs too, with ONNX Runtime's CUDA provider on the same device memory. `--runs N` segments the image N
more times and prints the median time, from pixels in memory to segments in memory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import Inference

from fastsam_deploy.runtime.cli.process import run_command
from fastsam_deploy.runtime.stages.image import load_image
from fastsam_deploy.runtime.trt import TRTFastSAM


def parser() -> argparse.ArgumentParser:
    """The flags of Inference.py, and two more."""
    arguments = Inference.parser()
    arguments.prog, arguments.description = "inference_trt.py", __doc__
    arguments.set_defaults(device="cuda", model_path=Path("./weights/FastSAM.plan"))
    arguments.add_argument("--runs", type=int, default=0, help="measure this many more runs on the same image")
    arguments.add_argument("--graphs", type=int, default=8, help="number of CUDA graphs to keep; 0: none")
    return arguments


def opened(args: argparse.Namespace, settings: dict[str, Any]) -> TRTFastSAM:
    """Open the model of the command line; with --runs, measure it."""
    model = TRTFastSAM(args.model_path, args.device, graphs=args.graphs, **settings)
    try:
        if args.runs > 0:
            measure(model, args)
    except BaseException:
        model.close()
        raise
    return model


def measure(model: TRTFastSAM, args: argparse.Namespace) -> None:
    """Print the median time of a run on the image."""
    image = load_image(args.img_path)
    model.warmup([(1, *image.shape[:2])])
    times = []
    for _ in range(args.runs):
        start = perf_counter()
        model.segment(image)
        times.append((perf_counter() - start) * 1000)
    where = ", ".join(f"{name} {value}" for name, value in model.description.items() if isinstance(value, (str, bool)))
    print(f"{args.runs} runs: median {median(times):.2f} ms, least {min(times):.2f} ms ({where})")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: exit code 0, or 2 with one line on standard error."""
    return run_command("fastsam", lambda: Inference.run(parser().parse_args(argv), opened))


if __name__ == "__main__":
    sys.exit(main())
