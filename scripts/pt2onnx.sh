#!/usr/bin/env bash
# Checkpoint -> ONNX, proven equal to the checkpoint. See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

help() {
  cat <<'TEXT'
usage: bash scripts/pt2onnx.sh [--weights FastSAM-x.pt] [--output fast_sam_1024.onnx] [--max_size 1024] [option …]

Exports a FastSAM checkpoint to ONNX and compares the file with the checkpoint on photographs.
An error leaves no file behind.

  --weights FILE    the checkpoint                 (environment: WEIGHTS;  default FastSAM-x.pt)
  --output FILE     the ONNX file                  (environment: OUTPUT;   default fast_sam_<max_size>.onnx)
  --max_size N      side of the input, or H,W      (environment: MAX_SIZE; default 1024; the same as --imgsz)
  -h, --help        this text

FastSAM-s.pt and FastSAM-x.pt are downloaded when they are not there. A flag wins over its environment variable.
Every other option goes to `fastsam-export onnx`, for example --fixed --batch 4 --half --opset 18 --images FOLDER;
the checkpoint may also be given as it is there, without --weights.

Python: $PYTHON if set, else the python3 on the path, when it has this package with its extra [export].
If it has not, this script makes the environment .venv-export beside the folder scripts/ (about 6 GB, once)
and uses that; PYTHON is then what it is made with.
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
  own=$root/.venv-export
  if [ ! -x "$own/bin/python" ] || ! has_export "$own/bin/python"; then
    echo "pt2onnx.sh: $python has no fastsam-deploy[export]; making $own" >&2
    if ! "$python" -m venv "$own"; then
      echo "pt2onnx.sh: $python cannot make environments; install python3-venv (apt install python3-venv)" >&2
      exit 2
    fi
    "$own/bin/python" -m pip install --quiet --upgrade pip
    "$own/bin/python" -m pip install --quiet -e "$root[export]"
  fi
  python=$own/bin/python
fi
exec "$python" -m fastsam_deploy.export.cli.scripts pt2onnx "$@"
