"""The extras of pyproject.toml: no combination installs two builds of OpenCV or of ONNX Runtime."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from fastsam_deploy.runtime.system.packages import BUILDS

tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
packaging_requirements = pytest.importorskip("packaging.requirements")

ROOT = Path(__file__).resolve().parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
ALTERNATIVES = {"cpu", "gpu"}
"""Whoever asks for both asks for two builds: docs/export.md says that an environment has one."""

WITH_OPENCV = {"cpu", "gpu", "openvino", "cuda", "trt", "rtx", "triton", "export", "trt-export", "rtx-export"}
"""Those that run models or make them."""


def closure(texts: list[str]) -> set[str]:
    """Names of packages that these requirements bring, as far as those are installed here."""
    names: set[str] = set()
    waiting = [packaging_requirements.Requirement(text) for text in texts]
    seen: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        key = f"{name}{sorted(requirement.extras)}"
        if key in seen:
            continue
        seen.add(key)
        names.add(name)
        try:
            further = requires(name) or []
        except PackageNotFoundError:
            continue
        for text in further:
            other = packaging_requirements.Requirement(text)
            if other.marker is None or any(other.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                waiting.append(other)
    return names


def builds(names: set[str]) -> dict[str, list[str]]:
    """Module → packages among these that bring it."""
    return {module: sorted(names.intersection(packages)) for module, packages in BUILDS.items()}


@pytest.mark.parametrize("left_out", sorted(ALTERNATIVES))
def test_no_combination_has_two_builds_of_a_library(left_out: str) -> None:
    """By the metadata of what is installed here: a combination brings what its extras bring, and no more."""
    brought = builds({name for extra, texts in EXTRAS.items() if extra != left_out for name in closure(texts)})
    assert brought["cv2"] == ["opencv-python-headless"]
    assert brought["onnxruntime"] == [{"cpu": "onnxruntime-gpu", "gpu": "onnxruntime"}[left_out]]
    assert brought["ultralytics"] == ["ultralytics-opencv-headless"]


def test_extras_that_need_opencv_name_it() -> None:
    assert {
        extra for extra, texts in EXTRAS.items() if any("opencv-python-headless" in t for t in texts)
    } == WITH_OPENCV


def test_the_extra_of_gpus_brings_cuda_and_cudnn() -> None:
    assert any(text.startswith("onnxruntime-gpu[cuda,cudnn]") for text in EXTRAS["gpu"])


def documented() -> list[str]:
    """Extras of every line with `pip install` in documentation and scripts."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md"), *ROOT.glob("scripts/*.sh")]
    files += [ROOT / "deploy/README.md", *ROOT.glob("scripts/*.py"), *ROOT.glob("triton_models/*.md")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.name != "CHANGELOG.md"]
    return sorted({names for text in texts for names in re.findall(r"(?:\.|deploy|root)\[([a-z,-]+)\]", text)})


@pytest.mark.parametrize("names", documented())
def test_documented_combinations_are_extras_and_no_contradiction(names: str) -> None:
    chosen = set(names.split(","))
    assert chosen <= set(EXTRAS) and not chosen >= ALTERNATIVES


def combinations() -> list[tuple[str, ...]]:
    """Every extra alone, every pair, what is documented, and all of them with either ONNX Runtime."""
    pairs = [*itertools.combinations(EXTRAS, 1), *itertools.combinations(EXTRAS, 2)]
    largest = [tuple(extra for extra in EXTRAS if extra != left_out) for left_out in sorted(ALTERNATIVES)]
    named = [tuple(text.split(",")) for text in documented()]
    return [names for names in dict.fromkeys([*pairs, *named, *largest]) if not set(names) >= ALTERNATIVES]


@pytest.mark.slow
@pytest.mark.timeout(3600)  # four hundred combinations, a second or two each
def test_the_index_resolves_every_combination_to_one_build(tmp_path: Path) -> None:
    """Nothing is installed. uv resolves as pip does."""
    pytest.importorskip("uv", reason="needs uv")
    wrong = {}
    for names in combinations():
        file = tmp_path / "requirements.in"
        file.write_text("\n".join(text for name in names for text in EXTRAS[name]), encoding="utf-8")
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if "Failed to fetch" in done.stderr or "error sending request" in done.stderr:
            pytest.skip(f"the index cannot be reached: {done.stderr[-300:]}")
        brought = builds({line.partition("==")[0] for line in done.stdout.splitlines()})
        counts = {module: len(packages) for module, packages in brought.items()}
        needed = int(bool(ALTERNATIVES.intersection(names)))
        cv2 = int(bool(WITH_OPENCV.intersection(names)))
        if done.returncode or (counts["cv2"], counts["onnxruntime"]) != (cv2, needed) or counts["ultralytics"] > 1:
            wrong[",".join(names)] = brought, done.stderr[-500:]
    assert not wrong


SINCE_3_11 = {"export", "clip-export", "dev"}
"""PyTorch 2.15, transformers 5.23 and check-jsonschema 0.39 have left Python 3.10."""


@pytest.mark.slow
@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_each_extra_resolves_on_the_oldest_python_unless_the_documents_say_otherwise(extra: str) -> None:
    pytest.importorskip("uv", reason="needs uv")
    for version in ("3.10", "3.11"):
        command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--python-version", version]
        command += ["--extra", extra, str(ROOT / "pyproject.toml")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if "Failed to fetch" in done.stderr or "error sending request" in done.stderr:
            pytest.skip(f"the index cannot be reached: {done.stderr[-300:]}")
        assert (done.returncode == 0) == (version == "3.11" or extra not in SINCE_3_11), done.stderr


def test_the_documents_say_which_extras_need_a_newer_python() -> None:
    text = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if "Python 3.11" in line)
    assert set(re.findall(r"`\[([a-z-]+)\]`", line)) == SINCE_3_11


def test_the_quick_tests_use_the_versions_of_all_tests() -> None:
    assert set(EXTRAS["test"]) < set(EXTRAS["dev"])
