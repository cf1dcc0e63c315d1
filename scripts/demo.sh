#!/usr/bin/env bash
# FastSAM on two photographs, from a fresh clone. Needs Python 3.10 or newer, bash, and a connection to PyPI.
#
#   bash scripts/demo.sh              writes pictures to ./demo_output
#   PYTHON=python3.12 bash scripts/demo.sh
#
# Makes the environment .venv-demo (about 400 MB, without PyTorch) and reuses it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=.venv-demo

fail() {
  printf 'demo: %s\n' "$@" >&2
  exit 2
}

python=${PYTHON:-python3}
command -v "$python" >/dev/null || fail "$python: not found; install Python 3.10 or newer, or name one: PYTHON=/path/to/python bash scripts/demo.sh"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail "$("$python" -V 2>&1) is too old, 3.10 or newer is needed; name another: PYTHON=python3.12 bash scripts/demo.sh"

# Hashes of what the environment was made from: of the dependencies, and of the project itself.
stamps=$("$python" - <<'PYTHON'
import hashlib
import pathlib
import sys


def digest(*paths):
    total = hashlib.sha256(sys.version.encode() + sys.executable.encode())
    for path in paths:
        total.update(str(path).encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


meta = [pathlib.Path("pyproject.toml"), pathlib.Path("setup.py")]
code = sorted(p for top in ("runtime", "models") for p in pathlib.Path(top).rglob("*") if p.suffix in (".py", ".onnx"))
print(digest(*meta), digest(*meta, *code))
PYTHON
)
read -r wants sources <<<"$stamps"

if [ "$(cat "$venv/wants" 2>/dev/null)" != "$wants" ]; then
  no_venv="this Python cannot make virtual environments: its venv or ensurepip module is missing"
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  advice="on Debian and Ubuntu run: sudo apt install python$version-venv   (elsewhere: install Python from python.org, or name another: PYTHON=…)"
  "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$no_venv" "$advice"
  echo "making $venv; this takes a minute, once"
  rm -rf "$venv"
  "$python" -m venv "$venv" || { rm -rf "$venv"; fail "$no_venv" "$advice"; }
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check '.[cpu]' ||
    fail "pip could not install '.[cpu]'; it needs PyPI (or a mirror named in PIP_INDEX_URL)"
  echo "$wants" >"$venv/wants"
  echo "$sources" >"$venv/sources"
elif [ "$(cat "$venv/sources" 2>/dev/null)" != "$sources" ]; then
  echo "the sources have changed; installing them again"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall .
  echo "$sources" >"$venv/sources"
fi

exec "$venv/bin/python" scripts/demo.py "$@"
