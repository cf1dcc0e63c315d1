"""TensorRT's real Python bindings for the tests, without TensorRT: names and signatures only, nothing that runs.

    python scripts/dev/trt_bindings.py --into FOLDER               # makes a sub-folder for each version, once
    python scripts/dev/trt_bindings.py --into FOLDER --write-api   # and tests/emulator/tensorrt/api-*.json from them

Then set FASTSAM_TRT_BINDINGS=FOLDER for pytest. The bindings are wheels of about 1.3 MB. The libraries that they load
are replaced by empty ones, compiled here from tests/emulator/tensorrt/stubs.c. None of this is part of the package.
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
    """Install the bindings of one version, with empty libraries, unless the folder exists. Whole or not at all.

    Does not use runtime/system/atomic.py, since this runs in environments without the package.
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
    """Output of tests/emulator/tensorrt/describe.py for the bindings; in another process, as they crash at exit."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "describe.py"), str(folder)], check=True, capture_output=True, text=True
    )
    description: dict[str, object] = json.loads(done.stdout)
    return description


def api_file(version: str) -> Path:
    """Path of the committed description of a version."""
    return TESTS / f"api-{'.'.join(version.split('.')[:2])}.json"


def api_text(description: dict[str, object]) -> str:
    """A description in the committed form: one line for each class."""
    classes = description["classes"]
    assert isinstance(classes, dict)
    lines = [f"  {json.dumps(name)}: {json.dumps(classes[name], sort_keys=True)}" for name in sorted(classes)]
    return f'{{"version": {json.dumps(description["version"])}, "classes": {{\n' + ",\n".join(lines) + "\n}}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="TensorRT's Python bindings for the tests.")
    parser.add_argument("--into", type=Path, required=True, help="folder; gets one sub-folder for each version")
    parser.add_argument("--write-api", action="store_true", help="write tests/emulator/tensorrt/api-*.json too")
    args = parser.parse_args(argv)
    args.into.mkdir(parents=True, exist_ok=True)
    for version in VERSIONS:
        folder = install(version, args.into)
        print(folder)
        if args.write_api:
            api_file(version).write_text(api_text(describe(folder)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
