#!/usr/bin/env bash
# All checks that need a GPU. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

help() {
  cat <<'TEXT'
usage: bash scripts/gpu_check.sh [--model M.onnx] [--checkpoint M.pt] [--output FOLDER] [--quick]

  1. Tests: tests/runtime/cuda on the real driver. Kernels are compared with NumPy, and the device pipeline with the CPU
     runtime on photographs; CUDA graphs on and off, threads, and constant memory over many calls.
  2. Speed: benchmarks.gpu_pipeline with ONNX Runtime's CUDA provider.
  3. With TensorRT installed: builds plans in FP32, FP16 and INT8, compares each with the ONNX file
     (fastsam-export engine), and measures each like 2.

  --model FILE       ONNX file (default: the demo model)
  --checkpoint FILE  checkpoint of the same network, for ultralytics (default: the demo checkpoint)
  --calibration DIR  photographs for INT8 (default: examples/images)
  --output DIR       reports and plans (default: gpu_check)
  --quick            a few runs instead of fifty

Python: $PYTHON if set, else python3. It needs pytest and this package with [gpu,cuda] ([trt] for 3; [export] for INT8
and to compare with ultralytics).
TEXT
}

model=$root/models/fastsam-demo.onnx
checkpoint=$root/models/fastsam-demo.pt
calibration=$root/examples/images
output=gpu_check
runs=50
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) help && exit 0 ;;
    --quick) runs=5 && shift ;;
    --model | --checkpoint | --calibration | --output)
      if [ $# -lt 2 ]; then
        echo "gpu_check.sh: $1 needs a value; see --help" >&2
        exit 2
      fi
      declare "${1#--}=$2"
      shift 2
      ;;
    *)
      echo "gpu_check.sh: $1: no such option; see --help" >&2
      exit 2
      ;;
  esac
done
python=${PYTHON:-python3}
mkdir -p "$output"

echo "== device"
"$python" -c 'import sys
from fastsam_deploy.runtime import FastSamError
from fastsam_deploy.runtime.cuda.driver.device import Device
try:
    device = Device.open()
except FastSamError as error:
    print(f"gpu_check.sh: {error}", file=sys.stderr)
    sys.exit(2)
print(device, "compute capability", device.compute_capability, "driver for CUDA", device.driver_version)'

echo "== tests on the device"
# Never on the emulated driver: this run must test the GPU.
env -u FASTSAM_EMULATED_CUDA "$python" -m pytest -q -p no:cacheprovider --rootdir "$root" "$root/tests/runtime/cuda" -m gpu

ultralytics=
if "$python" -c 'import ultralytics, torch; assert torch.cuda.is_available()' 2>/dev/null; then
  ultralytics=--checkpoint=$checkpoint
else
  echo "== ultralytics is not installed, or its torch has no CUDA: it is not measured"
fi
measure() { # name of the report, model, more arguments
  local folder=$output/$1
  shift
  PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} "$python" -m benchmarks.gpu_pipeline --model "$@" \
    ${ultralytics:+"$ultralytics"} --runs "$runs" --output "$folder"
}
echo "== ONNX Runtime"
measure onnxruntime "$model"

if "$python" -c 'import tensorrt' 2>/dev/null; then
  for precision in fp32 fp16 int8; do
    echo "== TensorRT $precision"
    plan=$output/$precision.plan
    "$python" -c 'from fastsam_deploy.export.cli.main import main; main()' engine "$model" --output "$plan" \
      --precision "$precision" --calibration "$calibration"
    measure "$precision" "$plan"
  done
else
  echo "== TensorRT is not installed: no plans were built"
fi
echo "reports are in $output"
