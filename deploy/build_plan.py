"""An ONNX file to a TensorRT plan, inside the image that will serve it: the same TensorRT builds and runs it.

    docker run --rm --gpus all --user "$(id -u)" -v "$PWD:/work" -w /work --entrypoint python3 \\
      fastsam-triton:26.07-0.1.0 /opt/fastsam/build_plan.py FastSAM-s.onnx --output FastSAM-s.plan

`trtexec` of the image does it. The plan runs on this kind of GPU only. Its precision is that of the ONNX file: TensorRT
11 takes the types from there. The plan's outputs are not compared with the ONNX file's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fastsam_deploy.runtime.engines import open_engine
from fastsam_deploy.runtime.errors import FastSamError, ModelError, ParameterError
from fastsam_deploy.runtime.spec import ModelSpec, imgsz_for

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"  # where NVIDIA's images have it
Profile = dict[str, list[int]]


def build_plan(model: Path, plan: Path, imgsz: int | None = None, max_batch: int = 8) -> None:
    """Write the plan, and beside it the JSON that `fastsam-export triton` reads. Nothing where it fails.

    Args:
        model: ONNX file with a batch that may vary.
        plan: `.plan`; the JSON has its name and the suffix `.json`.
        imgsz: side of the square input, pixels; None: the model's own. A model of fixed size keeps its own.
        max_batch: largest batch, and the one that the plan is tuned for.

    Raises:
        ModelError: the model cannot be read, takes one batch size only, or trtexec refuses it.
        ParameterError: an argument does not fit.
    """
    if plan.suffix != ".plan" or max_batch < 1:
        raise ParameterError(f"output {plan}, max_batch {max_batch}; expected a name ending in .plan and 1 or more")
    engine = open_engine(model)
    spec = engine.spec
    engine.close()
    profile = profile_of(spec, imgsz, max_batch, model.name)
    beside = plan.with_suffix(".json")
    unfinished, unfinished_json = plan.with_name(f".{plan.name}.part"), plan.with_name(f".{beside.name}.part")
    try:
        run_trtexec(model, unfinished, spec.input, profile)
        unfinished_json.write_text(json.dumps({"spec": json.loads(spec.to_json()), "profile": profile}, indent=2))
        unfinished_json.replace(beside)
        unfinished.replace(plan)
    finally:
        unfinished.unlink(missing_ok=True)
        unfinished_json.unlink(missing_ok=True)


def profile_of(spec: ModelSpec, imgsz: int | None, max_batch: int, name: str) -> Profile:
    """Least, usual and largest shape of the input."""
    if spec.batch is not None:
        raise ModelError(f"{name}: takes batches of {spec.batch} only; export it with a batch that may vary")
    side = imgsz_for(spec, imgsz)
    sides = list(spec.fixed_hw or (side, side))
    return {"min": [1, 3, *sides], "opt": [max_batch, 3, *sides], "max": [max_batch, 3, *sides]}


def run_trtexec(model: Path, plan: Path, images: str, profile: Profile) -> None:
    """Build, and let trtexec's own report through. Raises ModelError: it fails, or is not there."""
    program = TRTEXEC if Path(TRTEXEC).exists() else shutil.which("trtexec")
    if program is None:
        raise ModelError(f"trtexec: found neither {TRTEXEC} nor one on the path; run this inside the image")
    shapes = [f"--{kind}Shapes={images}:{'x'.join(map(str, shape))}" for kind, shape in profile.items()]
    done = subprocess.run([program, f"--onnx={model}", f"--saveEngine={plan}", "--skipInference", *shapes], check=False)
    if done.returncode != 0 or not plan.is_file():
        raise ModelError(f"{model}: trtexec ended with {done.returncode} and no plan; its report above says why")


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
