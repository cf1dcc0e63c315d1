#!/usr/bin/env bash
# Checkpoint -> ONNX file, compared with the checkpoint. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

help() {
  cat <<'TEXT'
usage: bash scripts/pt2onnx.sh [--weights FastSAM-x.pt] [--output fast_sam_1024.onnx] [--max_size 1024] [option …]

Exports a FastSAM checkpoint to ONNX and compares the file with the checkpoint on photographs.
After an error, no file is left behind.

  --weights FILE    the checkpoint                 (environment: WEIGHTS;  default FastSAM-x.pt)
  --output FILE     the ONNX file                  (environment: OUTPUT;   default fast_sam_<max_size>.onnx)
  --max_size N      side of the input, or H,W      (environment: MAX_SIZE; default 1024; the same as --imgsz)
  -h, --help        this text

FastSAM-s.pt and FastSAM-x.pt are downloaded if they are missing. A flag overrides its environment variable.
All other options are passed to `fastsam-export onnx`, for example --fixed --batch 4 --half --opset 18 --images FOLDER;
as with that command, the checkpoint may be given without --weights.

Python: $PYTHON if set, else the python3 on the path, if it has this package with its extras [cpu,export].
Otherwise this script makes the environment .venv-export beside the folder scripts/ (about 6 GB, once) with that
Python, and uses it.
TEXT
}

for argument in "$@"; do
  case $argument in
    -h | --help) help && exit 0 ;;
  esac
done

has_export() {
  "$1" -c 'import importlib.util as u, sys
names = ("torch", "ultralytics", "onnx", "onnxslim", "onnxscript", "onnxruntime", "typer")
sys.exit(not all(map(u.find_spec, names)) or not u.find_spec("fastsam_deploy") or not u.find_spec("fastsam_deploy.export"))' \
    2>/dev/null
}
python=${PYTHON:-python3}
if ! has_export "$python"; then
  environment=$root/.venv-export
  if [ ! -x "$environment/bin/python" ] || ! has_export "$environment/bin/python"; then
    echo "pt2onnx.sh: $python has no fastsam-deploy[cpu,export]; making $environment" >&2
    if ! "$python" -m venv "$environment"; then
      echo "pt2onnx.sh: $python cannot make environments; install python3-venv (apt install python3-venv)" >&2
      exit 2
    fi
    "$environment/bin/python" -m pip install --quiet --upgrade pip
    "$environment/bin/python" -m pip install --quiet -e "${root}[cpu,export]"
  fi
  python=$environment/bin/python
fi
exec "$python" -m fastsam_deploy.export.cli.scripts pt2onnx "$@"
