"""TensorRT's real Python bindings for the tests, without TensorRT; and the whole TensorRT for RTX, which builds plans.

    python scripts/dev/trt_bindings.py --into FOLDER               # makes a sub-folder for each version, once
    python scripts/dev/trt_bindings.py --into FOLDER --write-api   # and tests/emulator/tensorrt/api-*.json from them

Then set FASTSAM_TRT_BINDINGS=FOLDER for pytest. The bindings are wheels of about 1.3 MB. The libraries that they load
are replaced by empty ones, compiled here from tests/emulator/tensorrt/stubs.c: names and signatures only, nothing that
runs. TensorRT for RTX is two real wheels (Linux on x86-64: 95 MB, 233 MB installed): NVIDIA's parser and builder, which
need no GPU. They are in a folder of their own, which no environment has on its path. Nobody may pass them on (see the
licence in the wheel), so they are in no image and no package of ours. None of this is part of the package.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests/emulator/tensorrt"
VERSIONS = ("10.16.1.11", "11.4.0.106")
RTX_VERSION = "1.7.1.116"
RTX_WHEELS = ("tensorrt_rtx_cu13_bindings", "tensorrt_rtx_cu13_libs")
LIBRARIES = {"libnvinfer": "PART_INFER", "libnvinfer_plugin": "PART_PLUGIN", "libnvonnxparser": "PART_PARSER"}


def install(version: str, into: Path) -> Path:
    """Install the bindings of one version, with empty libraries, unless the folder exists. Whole or not at all.

    Does not use runtime/system/atomic.py, since this runs in environments without the package.
    """
    return _whole(into / version, [f"tensorrt-cu13-bindings=={version}"], version.partition(".")[0])


def install_rtx(into: Path) -> Path:
    """Install TensorRT for RTX, unless the folder exists. Whole or not at all."""
    return _whole(into / f"rtx-{RTX_VERSION}", [f"{wheel}=={RTX_VERSION}" for wheel in RTX_WHEELS])


def _whole(folder: Path, wheels: list[str], stubs_for: str | None = None) -> Path:
    if folder.is_dir():
        return folder
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(draft), *wheels]
        subprocess.run(pip, check=True)
        if stubs_for is not None:
            _compile_stubs(draft / "lib", stubs_for)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _compile_stubs(folder: Path, major: str) -> None:
    folder.mkdir()
    for name, part in LIBRARIES.items():
        library = f"{name}.so.{major}"
        arguments = ["-shared", "-fPIC", "-O1", f"-D{part}", f"-Wl,-soname,{library}"]
        output = ["-o", str(folder / library), str(TESTS / "stubs.c")]
        subprocess.run([os.environ.get("CC", "cc"), *arguments, *output], check=True)


def describe(folder: Path) -> dict[str, object]:
    """Output of tests/emulator/tensorrt/describe.py for the bindings; in another process, as they crash at exit."""
    done = subprocess.run(
        [sys.executable, str(TESTS / "describe.py"), str(folder)], check=True, capture_output=True, text=True
    )
    description: dict[str, object] = json.loads(done.stdout)
    return description


def api_file(version: str) -> Path:
    """Path of the committed description of a version; those of TensorRT for RTX begin with "rtx-"."""
    prefix = "rtx-" if version == RTX_VERSION else ""
    return TESTS / f"api-{prefix}{'.'.join(version.split('.')[:2])}.json"


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
    folders = {version: install(version, args.into) for version in VERSIONS}
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        folders[RTX_VERSION] = install_rtx(args.into)
    else:
        print(f"no TensorRT for RTX for {sys.platform} on {platform.machine()}: its tests are skipped")
    for version, folder in folders.items():
        print(folder)
        if args.write_api:
            api_file(version).write_text(api_text(describe(folder)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
