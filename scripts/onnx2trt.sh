#!/usr/bin/env bash
# ONNX -> TensorRT plan, confirmed and compared with ONNX Runtime. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

help() {
  cat <<'TEXT'
usage: bash scripts/onnx2trt.sh [--onnx fast_sam_1024.onnx] [--output fast_sam_1024.plan] [--precision fp16] [option …]

Builds a TensorRT plan for the GPU of this machine, confirms its precision, and compares it with ONNX Runtime on
photographs. An error leaves no file behind.

  --onnx FILE         the ONNX file              (environment: ONNX;      default fast_sam_1024.onnx)
  --output FILE       the plan                   (environment: OUTPUT;    default: the ONNX file's name + .plan)
  --precision P       fp32, fp16 or int8         (environment: PRECISION; default fp16)
  -h, --help          this text

A flag wins over its environment variable. Every other option goes to `fastsam-export engine`, for example
--shapes 1x640x640,1x1024x1024,4x1024x1024 --max-batch 4 --workspace 4 --timing-cache timings.bin --device 1
--calibration FOLDER --version-compatible --hardware-compatible --optimization-level 5 --trtexec --run --verbose;
the ONNX file may also be given as it is there, without --onnx.

Python: $PYTHON if set, else the python3 on the path. It needs this package with TensorRT (pip install
'fastsam-deploy[trt,trt-export]'), or trtexec with --trtexec --run; nothing is installed here.
TEXT
}

onnx=${ONNX:-}
output=${OUTPUT:-}
precision=${PRECISION:-}
rest=()
need() { # a flag's value must be there
  if [ "$2" -lt 2 ]; then
    echo "onnx2trt.sh: $1 needs a value; see --help" >&2
    exit 2
  fi
}
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) help && exit 0 ;;
    --onnx | --output | -o | --precision)
      need "$1" $#
      case $1 in
        --onnx) onnx=$2 ;;
        --output | -o) output=$2 ;;
        *) precision=$2 ;;
      esac
      shift 2
      ;;
    --onnx=*) onnx=${1#*=} && shift ;;
    --output=*) output=${1#*=} && shift ;;
    --precision=*) precision=${1#*=} && shift ;;
    --shapes | --max-batch | --imgsz | --workspace | --timing-cache | --optimization-level | --calibration | --device | --images)
      need "$1" $#
      rest+=("$1" "$2")
      shift 2
      ;;
    -*) rest+=("$1") && shift ;;
    *) onnx=$1 && shift ;;
  esac
done
onnx=${onnx:-fast_sam_1024.onnx}
output=${output:-${onnx%.onnx}.plan}
precision=${precision:-fp16}

python=${PYTHON:-python3}
if ! "$python" -c 'import importlib.util as u, sys
sys.exit(not (u.find_spec("fastsam_deploy") and u.find_spec("fastsam_deploy.export") and u.find_spec("typer")))' 2>/dev/null; then
  echo "onnx2trt.sh: $python has no fastsam-deploy; run: $python -m pip install '$root[trt,cpu]' onnx, or set PYTHON" >&2
  exit 2
fi
exec "$python" -c 'from fastsam_deploy.export.cli.main import main; main()' engine "$onnx" \
  --output "$output" --precision "$precision" ${rest[@]+"${rest[@]}"}
