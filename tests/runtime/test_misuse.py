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

from fastsam_deploy.runtime import Points, Text, load_image
from fastsam_deploy.runtime.errors import FastSamError, ParameterError, PromptError
from fastsam_deploy.runtime.masks.store import Masks
from fastsam_deploy.runtime.pipeline import FastSAM
from fastsam_deploy.runtime.segments import Segments
from fastsam_deploy.runtime.settings import EngineSettings, Thresholds
from fastsam_deploy.runtime.stages.image import image_copy
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


def _released() -> memoryview:
    view = memoryview(b"\xff\xd8")
    view.release()
    return view


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: load_image(_released()),
        lambda: image_copy(_released()),
        lambda: FastSAM(rect="no"),
        lambda: FastSAM(rect=0),
        lambda: FastSAM(rect=np.False_),
        lambda: FastSAM(imgsz=float("nan")),
        lambda: FastSAM(hint="x"),
        lambda: FastSAM(hint=np.zeros(3)),
        lambda: FastSAM(conf="0.5"),
        lambda: FastSAM(device=LONG),
        lambda: FastSAM(LONG),
        lambda: EngineSettings(threads=LONG),
        lambda: Thresholds(conf=None),
        lambda: Thresholds(conf=np.array([0.1, 0.2])),
        lambda: Thresholds(iou=True),
        lambda: Thresholds(max_det="x"),
        lambda: Points([[1, 2]], labels=LONG),
        lambda: Points([[1, 2]] * 100_000, labels=[5] * 100_000),
        lambda: Points([[1, 2]], mode=LONG),
        lambda: Text(["a", LONG], mode=LONG),
        lambda: load_image(np.zeros((4, 5, 3), np.uint8), bands=[1] * 1_000_000),
        lambda: load_image(np.zeros((4, 5, 3), np.uint8), range=LONG),
        lambda: Segments.empty((4, 5)).save("a.json", format=LONG),
        lambda: Segments.load(f"a.{LONG}"),
        lambda: Segments.empty((4, 5)).select(LONG),
    ],
)
def test_errors_are_ours_and_quote_little(misuse):
    """Values of another type were bugs with a traceback, or taken; a message had 3 MB."""
    with pytest.raises(FastSamError) as caught:
        misuse()
    message = str(caught.value)
    assert len(message) < 2100 and "\n" not in message, message[:200]
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_a_long_message_keeps_its_beginning_and_its_advice():
    message = str(ParameterError(f"labels are {LONG}; expected 0 or 1"))
    assert message.startswith("labels are xxx") and message.endswith("xxx; expected 0 or 1") and len(message) < 2100


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)], ids=str)
def test_masked_arrays_become_plain_ones(shape):
    array = np.ma.masked_array(np.arange(np.prod(shape), dtype=np.uint8).reshape(shape), mask=np.ones(shape))
    for pixels in (load_image(array), load_image(image_copy(array))):
        assert type(pixels) is np.ndarray and np.array_equal(pixels, load_image(array.data))
