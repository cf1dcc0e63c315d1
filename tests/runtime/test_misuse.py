"""What people write first: an answer that says what to write instead."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime.errors import PromptError
from fastsam_deploy.runtime.masks.store import Masks
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.segments import Segments
from fastsam_deploy.runtime.settings import EngineSettings
from fastsam_deploy.runtime.wire.question import Limits, Question


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        pytest.param([[5, 5]], r"prompt is \[5, 5\] \(list\), expected .*Points\(\[\[x, y\]\]\)", id="a point"),
        pytest.param("a cat", r"prompt is 'a cat' \(str\), expected Text\('a cat'\)", id="a text"),
        pytest.param(["a cat"], r"expected Text\('a cat'\)", id="texts"),
        pytest.param({"points": [[5, 5]]}, r"\(dict\), expected .*option --prompt", id="JSON"),
        pytest.param(np.array([[5, 5]]), r"\(ndarray\), expected .*Points", id="an array"),
        pytest.param(5, r"prompt is 5 \(int\)", id="a number"),
    ],
)
def test_what_is_no_prompt_is_told_which_one_it_would_be(prompt: Any, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        Segments.empty((8, 8)).select(prompt)


@pytest.mark.parametrize("row", [0, -1, np.int64(0), [[0]]])
def test_one_mask_by_its_number_is_told_how(row: Any) -> None:
    masks = Masks.from_dense(np.ones((2, 4, 4), np.bool_))
    with pytest.raises(IndexError, match=r"row 0 alone is \[0:1\] or \[\[0\]\], its pixels are masks.dense\(\)\[0\]"):
        masks[row]
    assert masks[[0]].areas.tolist() == masks[0:1].areas.tolist() == [16]


def test_an_open_model_is_not_pickled(demo_onnx: Path) -> None:
    with FastSAM(demo_onnx) as model, pytest.raises(TypeError, match=r"open FastSAM cannot be pickled .*open it there"):
        pickle.dumps(model)


@pytest.mark.parametrize("key", ["text", "points", "boxes", "everything"])
def test_a_prompt_at_the_top_of_the_json_is_told_its_place(key: str) -> None:
    with pytest.raises(PromptError, match=rf"'{key}' stands at the top; .*{{\"prompts\": \[{{\"{key}\": …}}\]}}"):
        Question.from_json(f'{{"{key}": true}}', Limits())


def test_a_cache_needs_no_folder_for_temporary_files(
    demo_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastsam_deploy.runtime.engines import open_network

    shutil.copy(demo_onnx, tmp_path / "m.onnx")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    network = open_network(tmp_path / "m.onnx", EngineSettings(engine="onnxruntime", cache=True))
    assert network.description["cache"].startswith("not written: ")
    network.close()


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("from fastsam_deploy.runtime.cli.main import main; sys.exit(main())", id="command"),
        pytest.param("from fastsam_deploy.runtime import FastSAM", id="import"),
    ],
)
def test_an_opencv_that_does_not_load_is_one_line_with_what_to_install(tmp_path: Path, program: str) -> None:
    """The build with windows on a machine without libGL: an ImportError, no ModuleNotFoundError."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file', name='cv2')")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['fastsam', 'segment', 'x.jpg']; "
    run = subprocess.run(
        [sys.executable, "-c", start + program], capture_output=True, text=True, timeout=60, check=False
    )
    last = run.stderr.splitlines()[-1]
    assert "OpenCV does not load (libGL.so.1: cannot open shared object file); run: pip uninstall" in last
    assert "pip install opencv-python-headless" in last
    assert ("Traceback" in run.stderr) is ("import FastSAM" in program)
