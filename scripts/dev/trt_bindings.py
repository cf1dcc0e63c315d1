"""TensorRT's real Python bindings for the tests, without TensorRT: its names and signatures, and nothing that runs.

    python scripts/dev/trt_bindings.py --into FOLDER               # one sub-folder for each version; made once
    python scripts/dev/trt_bindings.py --into FOLDER --write-api   # and tests/emulator/tensorrt/api-*.json from them

Then FASTSAM_TRT_BINDINGS=FOLDER for pytest. The bindings are wheels of about 1.3 MB; the libraries that they load are
replaced by empty ones that a C compiler makes here (tests/emulator/tensorrt/stubs.c).
Nothing of this is part of the package.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests/emulator/tensorrt"
VERSIONS = ("10.16.1.11", "11.4.0.106")
LIBRARIES = {"libnvinfer": "PART_INFER", "libnvinfer_plugin": "PART_PLUGIN", "libnvonnxparser": "PART_PARSER"}


def install(version: str, into: Path) -> Path:
    """The bindings of one version and empty libraries beside them. Whole or not at all; what is there stays.

    Not by runtime/system/atomic.py: this runs in environments without the package.
    """
    folder = into / version
    if folder.is_dir():
        return folder
    draft = into / f".{version}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        wheel = f"tensorrt-cu13-bindings=={version}"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(draft), wheel]
        subprocess.run(pip, check=True)
        (draft / "lib").mkdir()
        major = version.partition(".")[0]
        for name, part in LIBRARIES.items():
            library = f"{name}.so.{major}"
            arguments = ["-shared", "-fPIC", "-O1", f"-D{part}", f"-Wl,-soname,{library}"]
            output = ["-o", str(draft / "lib" / library), str(TESTS / "stubs.c")]
            subprocess.run([os.environ.get("CC", "cc"), *arguments, *output], check=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def describe(folder: Path) -> dict[str, object]:
    """What tests/emulator/tensorrt/describe.py says of the bindings; in a process, as they crash at exit."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "describe.py"), str(folder)], check=True, capture_output=True, text=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def api_file(version: str) -> Path:
    """Where the description of a version is committed."""
    return TESTS / f"api-{'.'.join(version.split('.')[:2])}.json"


def api_text(description: dict[str, object]) -> str:
    """As it is committed: one line for each class."""
    classes = description["classes"]
    assert isinstance(classes, dict)
    lines = [f"  {json.dumps(name)}: {json.dumps(classes[name], sort_keys=True)}" for name in sorted(classes)]
    return f'{{"version": {json.dumps(description["version"])}, "classes": {{\n' + ",\n".join(lines) + "\n}}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="TensorRT's Python bindings for the tests.")
    parser.add_argument("--into", type=Path, required=True, help="folder; gets one sub-folder for each version")
    parser.add_argument("--write-api", action="store_true", help="write tests/emulator/tensorrt/api-*.json too")
    given = parser.parse_args(argv)
    given.into.mkdir(parents=True, exist_ok=True)
    for version in VERSIONS:
        folder = install(version, given.into)
        print(folder)
        if given.write_api:
            api_file(version).write_text(api_text(describe(folder)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
