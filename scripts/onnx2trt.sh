#!/usr/bin/env bash
# ONNX file -> TensorRT plan, with its precision checked and its results compared with ONNX Runtime. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

help() {
  cat <<'TEXT'
usage: bash scripts/onnx2trt.sh [--onnx fast_sam_1024.onnx] [--output fast_sam_1024.plan] [--precision fp16] [option …]

Builds a TensorRT plan for the GPU of this machine, checks its precision, and compares it with ONNX Runtime on
photographs. After an error, no file is left behind.
With --rtx --gpu sm86,sm89,sm120: a plan for TensorRT for RTX, for these GPUs, built without any of them; not compared.

  --onnx FILE         the ONNX file              (environment: ONNX;      default fast_sam_1024.onnx)
  --output FILE       the plan                   (environment: OUTPUT;    default: name of the ONNX file + .plan/.rtx)
  --precision P       fp32, fp16 or int8         (environment: PRECISION; default fp16)
  -h, --help          this text

A flag overrides its environment variable. All other options are passed to `fastsam-export engine`, for example
--shapes 1x640x640,1x1024x1024,4x1024x1024 --max-batch 4 --workspace 4 --timing-cache timings.bin --device 1
--calibration FOLDER --version-compatible --hardware-compatible --optimization-level 5 --trtexec --run --verbose, or
--check, which says whether TensorRT for RTX takes the ONNX file;
as with that command, the ONNX file may be given without --onnx.

Python: $PYTHON if set, else the python3 on the path. It needs this package with TensorRT (pip install
'fastsam-deploy[gpu,trt,trt-export]'; with --rtx: 'fastsam-deploy[cpu,rtx-export]'), or trtexec with --trtexec --run.
This script installs nothing.
TEXT
}

for argument in "$@"; do
  case $argument in
    -h | --help) help && exit 0 ;;
  esac
done

python=${PYTHON:-python3}
if ! "$python" -c 'import importlib.util as u, sys
sys.exit(not (u.find_spec("fastsam_deploy") and u.find_spec("fastsam_deploy.export") and u.find_spec("typer")))' 2>/dev/null; then
  echo "onnx2trt.sh: $python has no fastsam-deploy; run: $python -m pip install '${root}[gpu,trt,trt-export]', or set PYTHON" >&2
  exit 2
fi
exec "$python" -m fastsam_deploy.export.cli.scripts onnx2trt "$@"
