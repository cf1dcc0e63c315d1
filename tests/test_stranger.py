"""A stranger's list: ten things done with README.md alone, in a clone with a new environment and an empty home.

1. Install the package.
2. Try it without installing anything by hand.
3. Segment a photograph, and find the picture.
4. Choose an object with a point in every image of a folder, and read the results.
5. Make a COCO data set of a folder.
6. Click on objects in the browser.
7. Choose an object in Python, without a second run of the network.
8. Draw it, with its score, into a file.
9. Get FastSAM's own weights, or learn where to get them and where to put them.
10. Segment with these weights, by their name.

Every command and the Python code are taken from README as they stand there. The environment is made with pip, so the
tests are slow; `tests/test_readme.py` runs the same commands in the environment of the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastsam_deploy.runtime.weights.published import published

cv2 = pytest.importorskip("cv2", reason="needs OpenCV")

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "build", "*.egg-info", "__pycache__", "*.so.1", "shared", "output")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="README's commands are those of a POSIX shell"),
]

Run = Callable[..., str]

COUNTING = """
import onnxruntime
runs = []
class Counted(onnxruntime.InferenceSession):
    def run(self, *given):
        runs.append(given)
        return super().run(*given)
    def run_with_iobinding(self, *given):
        runs.append(given)
        return super().run_with_iobinding(*given)
onnxruntime.InferenceSession = Counted
"""
"""Counts the runs of the network."""


def block(language: str, first: str) -> str:
    """The block of README that begins with these words."""
    return next(text for text in blocks(language) if text.startswith(first))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stranger")
    shutil.copytree(ROOT, folder / "fastsam-deploy", ignore=LEFT_OUT)
    (folder / "home").mkdir()
    yield folder / "fastsam-deploy"
    shutil.rmtree(folder)  # the environment has a gigabyte


@pytest.fixture(scope="module")
def environment(clone: Path) -> dict[str, str]:
    """Variables of a shell in which a new virtual environment is active."""
    venv = clone.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FASTSAM"))}
    # Packages that pip has downloaded before are not downloaded again, although the home is another one.
    cache = subprocess.run([venv / "bin/pip", "cache", "dir"], capture_output=True, text=True, check=True)
    kept |= {"HOME": str(clone.parent / "home"), "PIP_CACHE_DIR": cache.stdout.strip()}
    return kept | {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "VIRTUAL_ENV": str(venv)}


@pytest.fixture(scope="module")
def run(clone: Path, environment: dict[str, str]) -> Run:
    """Runs a line of README and returns what it says."""

    def line_of_readme(line: str, code: int = 0) -> str:
        assert any(line in text.splitlines() for text in blocks("bash")), line
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=clone, env=environment, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    return line_of_readme


@pytest.fixture(scope="module")
def weights() -> bool:
    """Whether this machine reaches the release with the weights."""
    try:
        request = urllib.request.Request(published("FastSAM-s").url(), method="HEAD")
        with urllib.request.urlopen(request, timeout=20):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def installed(run: Run) -> None:
    run("pip install '.[cpu]'")


@pytest.mark.usefixtures("installed")
class TestAStranger:
    def test_1_installs_the_package(self, environment: dict[str, str]) -> None:
        command = [Path(environment["VIRTUAL_ENV"]) / "bin/pip", "list"]
        packages = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "fastsam-deploy" in packages and "torch" not in packages

    def test_2_sees_it_work_without_installing_anything_by_hand(self, run: Run, clone: Path) -> None:
        said = run("bash scripts/demo.sh")
        assert str(clone / "demo_output") in said
        assert len(list((clone / "demo_output").glob("*.jpg"))) == 6

    def test_3_segments_a_photograph_and_finds_the_picture(self, run: Run, clone: Path) -> None:
        said = run("fastsam segment examples/images/coffee.jpg")
        (named,) = set(re.findall(r"\S*coffee\.overlay\.jpg", said))
        assert cv2.imread(str(clone / named)).shape == (400, 600, 3)

    def test_4_chooses_an_object_in_every_image_of_a_folder(self, run: Run, clone: Path) -> None:
        run("fastsam segment examples/images --points 285,150 --json results.jsonl")
        records = [json.loads(line) for line in (clone / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        assert {Path(record["image"]["path"]).name for record in records} >= {"coffee.jpg", "cat.jpg"}
        assert all(len(record["segments"]) == 1 for record in records)

    def test_5_makes_a_coco_data_set(self, run: Run, clone: Path) -> None:
        run("fastsam segment examples/images --format coco --output dataset")
        data = json.loads((clone / "dataset/annotations.json").read_text(encoding="utf-8"))
        assert len(data["images"]) >= 2 and len(data["annotations"]) > 20 and data["categories"]

    def test_6_clicks_on_objects_in_the_browser(self, run: Run, clone: Path, environment: dict[str, str]) -> None:
        """A browser of our own writes down the address that it is told to open."""
        sentence = next(line for line in README.splitlines() if "fastsam app" in line)
        install, serve = re.findall(r"`([^`]+)`", sentence)
        subprocess.run(["bash", "-c", install], cwd=clone, env=environment, check=True, timeout=900)
        browser, asked = clone.parent / "browser", clone.parent / "asked"
        browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{asked}.part"\nmv "{asked}.part" "{asked}"\n')
        browser.chmod(0o755)
        command = ["bash", "-c", f"exec {serve}"]
        with subprocess.Popen(command, cwd=clone, env={**environment, "BROWSER": str(browser)}) as page:
            try:
                until = time.monotonic() + 120
                while not asked.exists() and page.poll() is None and time.monotonic() < until:
                    time.sleep(0.1)
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(asked.read_text(), timeout=60) as answer:
                    assert answer.status == 200 and b"<html" in answer.read()
            finally:
                page.send_signal(signal.SIGINT)
        assert page.returncode in (0, 130)

    def test_7_and_8_chooses_and_draws_an_object_in_python(self, clone: Path, environment: dict[str, str]) -> None:
        code = block("python", "from PIL import Image")
        (name,) = re.findall(r'save\("([\w.]+)"\)', code)
        python = Path(environment["VIRTUAL_ENV"]) / "bin/python"
        done = subprocess.run(
            [python, "-c", f"{COUNTING}\n{code}\nprint(len(runs), len(everything), len(cup))"],
            cwd=clone, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        runs, every, chosen = map(int, done.stdout.split())
        assert (runs, chosen) == (1, 1) and every > 20
        assert cv2.imread(str(clone / name)).shape == (400, 600, 3)

    def test_9_gets_the_weights_or_learns_where_to_put_them(self, run: Run, weights: bool, clone: Path) -> None:
        run("pip install '.[cpu,direct]'")
        if weights:
            assert "use it with: fastsam segment photo.jpg --model FastSAM-s" in run("fastsam download FastSAM-s")
            return
        said = run("fastsam download FastSAM-s", code=2)
        place = clone.parent / "home/.cache/fastsam-deploy/FastSAM-s.pt"
        assert re.search(r"download https://github\.com/\S+/FastSAM-s\.pt \(23\.9 MB, SHA-256 [0-9a-f]{64}\)", said)
        assert f"put it at {place}" in said

    def test_10_segments_with_the_weights(self, run: Run, weights: bool, clone: Path) -> None:
        """Without a connection, the demo model takes the place of the file that another machine would have made."""
        if not weights:
            place = clone.parent / "home/.cache/fastsam-deploy"
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(clone / "models/fastsam-demo.onnx", place / "FastSAM-s.onnx")
        said = run("fastsam segment examples/images/cat.jpg --model FastSAM-s")
        (named,) = set(re.findall(r"\S*cat\.overlay\.jpg", said))
        assert cv2.imread(str(clone / named)) is not None
