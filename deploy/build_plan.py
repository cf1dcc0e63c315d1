"""An ONNX file to a TensorRT plan, inside the image that will serve it: the same TensorRT builds and runs it.

    docker run --rm --gpus all --user "$(id -u)" -v "$PWD:/data" -w /data --entrypoint python3 \\
      fastsam-triton:26.07-0.1.0 /opt/fastsam/build_plan.py FastSAM-s.onnx --output FastSAM-s.plan

The image has TensorRT's `trtexec` and not its Python package: this is `fastsam-export engine --trtexec --run` for a
server, with one square input and full batches. The plan runs on this kind of GPU only. Its precision is that of the
ONNX file. The plan's outputs are not compared with the ONNX file's; where TensorRT's Python package is installed,
`fastsam-export engine` does that.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from fastsam_deploy.export.tensorrt.request import request_for
from fastsam_deploy.export.tensorrt.with_trtexec import build_with_trtexec
from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.errors import FastSamError, ModelError, ParameterError
from fastsam_deploy.runtime.spec import imgsz_for


def build_plan(model: Path, plan: Path, imgsz: int | None = None, max_batch: int = 8) -> None:
    """Write the plan, and beside it the JSON that `fastsam-export triton` reads. Nothing where it fails.

    Args:
        model: ONNX file with a batch that may vary.
        plan: `.plan`; the JSON has its name and the suffix `.json`.
        imgsz: side of the square input, pixels; None: the model's own. A model of fixed size keeps its own.
        max_batch: largest batch, and the one that the plan is tuned for.

    Raises:
        ModelError: the model cannot be read, or takes one batch size only.
        ParameterError: an argument does not fit. ExportError: trtexec refuses the model, or is not there.
    """
    if max_batch < 1:
        raise ParameterError(f"max_batch is {max_batch}, expected 1 or more")
    with closing(open_engine(model)) as engine:
        spec = engine.spec
    if spec.batch is not None:
        raise ModelError(f"{model.name}: takes batches of {spec.batch} only; export it with a batch that may vary")
    side = imgsz_for(spec, imgsz)
    height, width = spec.fixed_hw or (side, side)
    shapes = ",".join(f"{batch}x{height}x{width}" for batch in (1, max_batch, max_batch))
    build_with_trtexec(request_for(model, plan, shapes=[shapes], imgsz=imgsz))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns 2 where something expected went wrong."""
    parser = argparse.ArgumentParser(description="ONNX file to TensorRT plan, inside the image that serves it.")
    parser.add_argument("model", type=Path, help="ONNX file")
    parser.add_argument("--output", type=Path, required=True, help="the plan; its JSON is written beside it")
    parser.add_argument("--imgsz", type=int, help="side of the square input, pixels; default: the model's own")
    parser.add_argument("--max-batch", type=int, default=8, help="largest batch (default 8)")
    given = parser.parse_args(argv)
    try:
        build_plan(given.model, given.output, given.imgsz, given.max_batch)
    except FastSamError as error:
        sys.stderr.write(f"build_plan: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
