#!/usr/bin/env bash
# All checks, from a fresh clone: lint, types, tests.
#
#   bash scripts/test.sh            all tests except those marked slow
#   bash scripts/test.sh -m slow    the slow tests (nightly); other arguments are passed to pytest too
#   bash scripts/test.sh --fast     lint, types and the tests of the runtime, in an environment of its own of 0.5 GB
#
# Makes five environments under .venv-test (about 9 GB, most of it PyTorch) and reuses them. In each, the project is
# installed as users install it, not in place:
#   full     with [cpu,export] and the tools for tests; NumPy 2; PyCUDA on an emulated driver (only on Linux with g++)
#   bare     with [cpu,clip] only, as for an ordinary user: no torch; NumPy 1.26
#   direct   with [cpu,direct]: exports without torch
#   tensorrt TensorRT's bindings, and TensorRT for RTX with NVIDIA's parser and builder (95 MB to download, 233 MB; only on
#            Linux on x86-64): folders that only its tests put on their path
#   triton   a real Triton Inference Server with its Python models; NumPy 1.26 (only on Linux with Python 3.11)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
envs=${FASTSAM_TEST_ENVS:-$PWD/.venv-test}

# An environment is made again when the files that define it change.
stamp=$(cat pyproject.toml setup.py scripts/test.sh | sha256sum | cut -c1-16)
make_env() { # name, its size, then what pip installs
  local dir=$envs/$1 size=$2
  shift 2
  if [ "$(cat "$dir/stamp" 2>/dev/null)" != "$stamp" ]; then
    echo "== making $dir: $size, downloads not in pip's cache included"
    rm -rf "$dir"
    "$python" -m venv "$dir"
    "$dir/bin/python" -m pip install --quiet --upgrade pip
    "$dir/bin/python" -m pip install --quiet "$@"
    echo "$stamp" >"$dir/stamp"
  fi
}
install_project() { # name; installs the current sources in place of those of the last run
  "$envs/$1/bin/python" -m pip install --quiet --no-deps --force-reinstall .
}

if [ "${1:-}" = --fast ]; then
  shift
  make_env fast "0.5 GB" ".[cpu,clip,test]"
  install_project fast
  bin=$envs/fast/bin
  echo "== lint"
  "$bin/ruff" check .
  "$bin/ruff" format --check .
  echo "== types"
  (cd "$envs" && "$bin/mypy" --config-file "$OLDPWD/pyproject.toml" -m fastsam_deploy -p fastsam_deploy.runtime)
  echo "== tests of the runtime"
  exec "$bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist loadfile tests/runtime --ignore tests/runtime/cuda \
    --ignore tests/runtime/accuracy --ignore tests/runtime/engines/tensorrt --ignore tests/runtime/cli \
    --ignore tests/runtime/engines/onnxruntime/test_device.py -m "not slow and not export and not triton" "$@"
fi

# labelme is no extra: it brings onnxruntime, which must not lie beside onnxruntime-gpu.
make_env full "8 GB" ".[cpu,export,clip-export,clip,triton,openvino,supervision,batch,ray,serve,app,dev]" "labelme>=5.5"
make_env bare "0.4 GB" ".[cpu,clip]" "numpy==1.26.*" pytest pytest-timeout pytest-xdist hypothesis tifffile
make_env direct "0.4 GB" ".[cpu,direct]"
install_project full
install_project bare
install_project direct
bin=$envs/full/bin
if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) or sys.platform != "linux")'; then
  "$python" scripts/triton_server.py --environment "$envs/triton" --install-only
  export FASTSAM_TRITON_ENV=$envs/triton
else
  echo "== no Triton server for $("$python" --version) on $(uname -s): its tests are skipped"
fi

if [ "$(uname -s)" = Linux ] && command -v g++ >/dev/null; then
  "$bin/python" scripts/dev/emulated_cuda.py --environment "$envs/full"
  emulated=$envs/full/emulated-cuda
  "$bin/python" scripts/dev/trt_bindings.py --into "$envs/tensorrt"
  export FASTSAM_TRT_BINDINGS=$envs/tensorrt
else
  echo "== no g++ on Linux: no emulated CUDA driver and no TensorRT bindings, their tests are skipped"
fi

if ! command -v chromium chromium-browser google-chrome >/dev/null; then
  echo "== no Chromium: the tests of the web page in a browser are skipped; to run them: apt-get install chromium"
fi

echo "== lint"
"$bin/ruff" check .
"$bin/ruff" format --check .

echo "== types"
# From another folder, so that the installed package is checked and not the sources in this one.
(cd "$envs" && "$bin/mypy" --config-file "$OLDPWD/pyproject.toml" -m fastsam_deploy -p fastsam_deploy.runtime -p fastsam_deploy.export)

# The tests of a file run in one process, as they share a server or an export.
tests() { # python, then arguments of pytest; selecting no test at all (exit code 5) is not a failure
  "$1" -m pytest -q -p no:cacheprovider -n 2 --dist loadfile "${@:2}" || [ $? = 5 ]
}

echo "== tests, NumPy 1.26, without torch"
tests "$envs/bare/bin/python" tests/runtime tests/scripts --ignore tests/runtime/cuda --ignore tests/runtime/accuracy \
  --ignore tests/runtime/engines/tensorrt --ignore tests/runtime/engines/onnxruntime/test_device.py \
  -m "not slow and not export" "$@"

echo "== tests, CUDA on an emulated driver"
# In separate processes: other libraries would find the driver too, and take it for a GPU.
FASTSAM_EMULATED_CUDA=${emulated:-} tests "$bin/python" tests/runtime/cuda tests/runtime/engines/tensorrt/test_on_driver.py \
  --cov --cov-report= -m "not slow" "$@"

echo "== tests, everything else"
FASTSAM_DIRECT_PYTHON=$envs/direct/bin/python FASTSAM_BARE_PYTHON=$envs/bare/bin/python tests "$bin/python" --ignore tests/runtime/cuda \
  --cov --cov-append --cov-report=term:skip-covered -m "not slow" "$@"
