#!/usr/bin/env bash
# All checks that need a GPU. See --help.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

help() {
  cat <<'TEXT'
usage: bash scripts/gpu_check.sh [--model M.onnx] [--checkpoint M.pt] [--output FOLDER] [--only STEP,STEP…] [--quick]

Each step runs whatever became of the others. At the end there is a line for each: passed, failed, or skipped and why.

  requirements       the packages that the other steps need
  tests              tests/runtime/cuda -m gpu: kernels against their NumPy twins, and the device pipeline against the CPU
                     runtime on photographs; CUDA graphs on and off, threads, and constant memory over many calls
  memcheck, racecheck, synccheck
                     the kernels' edge cases again, under these tools of compute-sanitizer (part of the CUDA toolkit)
  onnxruntime        speed with ONNX Runtime's CUDA provider (benchmarks.gpu_pipeline)
  plan-fp32, plan-fp16, plan-int8
                     with TensorRT: builds a plan and compares it with the ONNX file (fastsam-export engine)
  speed-fp32, speed-fp16, speed-int8
                     its speed

  --model FILE       ONNX file (default: the demo model)
  --checkpoint FILE  checkpoint of the same network, for ultralytics (default: the .pt file beside the model)
  --calibration DIR  photographs for INT8 (default: examples/images)
  --output DIR       reports, plans, and the output of each step (default: gpu_check)
  --only STEPS       these steps, separated by commas
  --quick            a few runs instead of fifty

Python: $PYTHON if set, else python3, with this package as [gpu,cuda,dev] ([trt,trt-export] for plans; [export] to compare
with ultralytics).

Exit status: 0 if nothing failed, 1 if a step failed, 2 if there is no GPU or an option is wrong.
TEXT
}

model=$root/models/fastsam-demo.onnx
checkpoint=
calibration=$root/examples/images
output=gpu_check
only=
runs=50
steps=requirements,tests,memcheck,racecheck,synccheck,onnxruntime
for precision in fp32 fp16 int8; do steps+=,plan-$precision,speed-$precision; done

refuse() {
  echo "gpu_check.sh: $1; see --help" >&2
  exit 2
}
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) help && exit 0 ;;
    --quick) runs=5 && shift ;;
    --model | --checkpoint | --calibration | --output | --only)
      [ $# -ge 2 ] || refuse "$1 needs a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    *) refuse "$1: no such option" ;;
  esac
done
for name in ${only//,/ }; do
  [[ ,$steps, == *,$name,* ]] || refuse "--only: no step $name, expected some of $steps"
done
[ -n "$checkpoint" ] || [ ! -f "${model%.onnx}.pt" ] || checkpoint=${model%.onnx}.pt
python=${PYTHON:-python3}
# Never on the emulated driver: this run must test the GPU.
unset FASTSAM_EMULATED_CUDA
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

has() { "$python" -c "$1" >/dev/null 2>&1; }

device() {
  "$python" -c 'import sys
try:
    from fastsam_deploy.runtime import FastSamError
    from fastsam_deploy.runtime.cuda.driver.device import Device
except ImportError as error:
    sys.exit(f"gpu_check.sh: {error}; install this package: pip install \".[gpu,cuda,dev]\", or set PYTHON")
try:
    device = Device.open()
except FastSamError as error:
    sys.exit(f"gpu_check.sh: {error}")
print(device, "compute capability", device.compute_capability, "driver for CUDA", device.driver_version)'
}
echo "== device"
device || exit 2
mkdir -p "$output" || exit 2

results=()
failures=0
step() { # name, command …
  local name=$1 log=$output/$1.log status
  shift
  [ -z "$only" ] || [[ ,$only, == *,$name,* ]] || return 0
  echo "== $name"
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  case $status in
    0) results+=("passed   $name") ;;
    77) results+=("skipped  $name: $(tail -n 1 "$log")") ;;
    *) results+=("failed   $name: exit status $status, see $log") && failures=$((failures + 1)) ;;
  esac
}
skip() { # why
  echo "$1"
  return 77
}

requirements() {
  "$python" -c 'import sys
from importlib.util import find_spec
needed = {"pytest": "dev", "pytest_timeout": "dev", "hypothesis": "dev", "cv2": "gpu", "onnxruntime": "gpu",
          "pycuda": "cuda", "cuda": "cuda"}
missing = {name: extra for name, extra in needed.items() if find_spec(name) is None}
for name, extra in missing.items():
    print(f"{name} is missing: it comes with the extra [{extra}]")
if missing:
    extras = ",".join(dict.fromkeys(missing.values()))
    sys.exit(f"run: pip install \".[{extras}]\" in the folder of this project")
import onnxruntime
providers = onnxruntime.get_available_providers()
if "CUDAExecutionProvider" not in providers:
    found = ", ".join(providers)
    sys.exit(f"ONNX Runtime {onnxruntime.__version__} has {found} and no CUDAExecutionProvider; "
             "run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install \".[gpu]\"")'
}
pytest=("$python" -m pytest -q -p no:cacheprovider --rootdir "$root" -c "$root/pyproject.toml" -m gpu)
tests() {
  has "import pytest, pytest_timeout, hypothesis" || { skip "pytest, pytest-timeout or hypothesis is missing"; return; }
  "${pytest[@]}" "$root/tests/runtime/cuda"
}
sanitized() { # tool
  local sanitizer
  sanitizer=$(PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin command -v compute-sanitizer) ||
    { skip "compute-sanitizer is neither on the path nor in ${CUDA_HOME:-/usr/local/cuda}/bin"; return; }
  # One kind of test for each kernel, at its edges: the tools make a kernel fifty times as slow.
  local edges="edge or counts or column or bits or split or past or finite or thumbnail or fit"
  "$sanitizer" --tool "$1" --error-exitcode 99 --target-processes all "${pytest[@]}" --timeout 3600 \
    -k "($edges) and not 30000 and not photographs" "$root"/tests/runtime/cuda/test_kernels_{letterbox,decode,masks,prompts}.py
}
measure() { # name of the report, model
  local peer=()
  if [ -z "$checkpoint" ]; then
    echo "no --checkpoint: ultralytics is not measured"
  elif has 'import ultralytics, torch; assert torch.cuda.is_available()'; then
    peer=(--checkpoint "$checkpoint")
  else
    echo "ultralytics is not installed, or its torch has no CUDA: it is not measured"
  fi
  "$python" -m benchmarks.gpu_pipeline --model "$2" ${peer[@]+"${peer[@]}"} --runs "$runs" --output "$output/$1"
}
onnxruntime() {
  has 'import onnxruntime as o; assert "CUDAExecutionProvider" in o.get_available_providers()' ||
    { skip "this ONNX Runtime has no CUDA provider"; return; }
  measure onnxruntime "$model"
}
plan_file() { # precision; the model's name says which goals are its own
  local name=${model##*/}
  echo "$output/${name%.onnx}-$1.plan"
}
plan() { # precision
  has 'import tensorrt, onnx' || { skip "TensorRT or onnx is not installed: they come with [trt,trt-export]"; return; }
  local more=()
  # Photographs are for what is quantized here; anything else refuses them.
  [ "$1" != int8 ] || more=(--calibration "$calibration")
  rm -f "$(plan_file "$1")"
  "$python" -c 'from fastsam_deploy.export.cli.main import main; main()' engine "$model" --output "$(plan_file "$1")" \
    --precision "$1" ${more[@]+"${more[@]}"}
}
speed() { # precision
  local file
  file=$(plan_file "$1")
  [ -f "$file" ] || { skip "there is no plan in $1"; return; }
  measure "$1" "$file"
}

step requirements requirements
step tests tests
for tool in memcheck racecheck synccheck; do step "$tool" sanitized "$tool"; done
step onnxruntime onnxruntime
for precision in fp32 fp16 int8; do
  step "plan-$precision" plan "$precision"
  step "speed-$precision" speed "$precision"
done

echo "== summary"
printf '%s\n' "${results[@]}"
echo "reports are in $output"
[ "$failures" = 0 ] || exit 1
