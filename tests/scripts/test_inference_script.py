"""`scripts/Inference.py` means what the original FastSAM's command line means, without its faults."""

from __future__ import annotations

import builtins
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime.errors import PromptError
from fastsam_deploy.runtime.prompts.boxes import Boxes
from fastsam_deploy.runtime.prompts.points import Points
from fastsam_deploy.runtime.prompts.text import Text

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "Inference.py"
TINY_CLIP = Path(__file__).resolve().parents[1] / "data" / "clip-tiny"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("Inference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(coffee, tmp_path)
    return tmp_path


@pytest.fixture
def call(script: ModuleType, folder: Path, demo_onnx: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run it on `coffee.jpg` with the demo model, small: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        common = ["--model_path", str(demo_onnx), "--img_path", "coffee.jpg", "--imgsz", "320", "--conf", "0.2"]
        code = script.main([*common, *arguments])
        return (code, *capsys.readouterr())

    return run


def test_the_defaults_are_the_originals(script: ModuleType) -> None:
    found = vars(script.parser().parse_args([]))
    assert {
        name: found[name] for name in ("iou", "conf", "randomcolor", "retina", "withContours", "better_quality")
    } == {
        "iou": 0.9,
        "conf": 0.4,
        "randomcolor": True,
        "retina": True,
        "withContours": False,
        "better_quality": False,
    }
    assert found["model_path"] == Path("weights/FastSAM.pt")
    assert found["img_path"] == Path("images/dogs.jpg")
    assert found["output"] == Path("output")
    assert found["point_prompt"] == "[[0,0]]"
    assert found["box_prompt"] == "[[0,0,0,0]]"


# `type=bool` makes every text true there.
@pytest.mark.parametrize("flag", ["randomcolor", "retina", "withContours", "better_quality"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [([], True), (["True"], True), (["False"], False), (["false"], False), (["0"], False), (["1"], True)],
)
def test_booleans_are_booleans(script: ModuleType, flag: str, values: list[str], expected: bool) -> None:
    assert getattr(script.parser().parse_args([f"--{flag}", *values]), flag) is expected


def test_what_is_no_boolean_is_refused(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script.parser().parse_args(["--retina", "maybe"])
    assert "'maybe' is neither True nor False" in capsys.readouterr().err


# CASIA #104, #128: a flat box crashes there; #58: several boxes.
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], None, id="everything"),
        pytest.param(
            ["--box_prompt", "[[0,0,0,0]]", "--point_prompt", "[[0,0]]"], None, id="the defaults are no prompt"
        ),
        pytest.param(["--box_prompt", "[]", "--point_prompt", "[]"], None, id="empty lists are no prompt"),
        pytest.param(["--box_prompt", "[570,200,230,400]"], [[570, 200, 800, 600]], id="a flat box"),
        pytest.param(["--box_prompt", "[[570,200,230,400]]"], [[570, 200, 800, 600]], id="a nested box"),
        pytest.param(
            ["--box_prompt", "[[5,6,10,20],[0,0,1,2],[5,6,10,20]]"],
            [[5, 6, 15, 26], [0, 0, 1, 2], [5, 6, 15, 26]],
            id="several boxes, in order, twice the same",
        ),
        pytest.param(["--box_prompt", "[1,2,3,4]", "--point_prompt", "[[9,9]]"], [[1, 2, 4, 6]], id="box before point"),
        pytest.param(["--box_prompt", "[1,2,3,4]", "--text_prompt", "a dog"], [[1, 2, 4, 6]], id="box before text"),
    ],
)
def test_box_prompts(script: ModuleType, arguments: list[str], expected: list[list[int]] | None) -> None:
    found = script.chosen_prompt(script.parser().parse_args(arguments))
    if expected is None:
        assert found is None
    else:
        assert isinstance(found, Boxes)
        assert found.xyxy.tolist() == expected


@pytest.mark.parametrize(
    ("points", "labels", "expected"),
    [
        pytest.param("[[520,360],[620,300]]", "[1,0]", [True, False], id="the README's"),
        pytest.param("[[520,360],[620,300]]", None, [True, True], id="without labels all are foreground"),
        pytest.param("[520,360]", "[0]", [False], id="one flat point, background"),
        pytest.param("[[0,0],[5,5]]", None, [True, True], id="the origin beside another point"),
    ],
)
def test_point_prompts(script: ModuleType, points: str, labels: str | None, expected: list[bool]) -> None:
    label_arguments = [] if labels is None else ["--point_label", labels]
    found = script.chosen_prompt(script.parser().parse_args(["--point_prompt", points, *label_arguments]))
    assert isinstance(found, Points)
    assert found.labels.tolist() == expected
    assert found.mode == "merge"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--text_prompt", "a dog"], "without --clip_path.*fastsam-export clip", id="text"),
        pytest.param(["--text_prompt", "x", "--point_prompt", "[[1,1]]"], "--clip_path", id="text before point"),
        pytest.param(["--text_prompt", " ", "--clip_path", "clip"], "expected words", id="a blank text"),
        pytest.param(["--box_prompt", "[[1,2,3]]"], "is not 4 numbers for each", id="three numbers"),
        pytest.param(["--box_prompt", "[[1,2,3,'a']]"], "is not 4 numbers for each", id="a word"),
        pytest.param(["--box_prompt", "1,2,3,4)"], "cannot be read", id="no list"),
        pytest.param(["--box_prompt", "5"], "is not a list", id="a number"),
        pytest.param(["--box_prompt", "[[5,5,0,9]]"], "box 0", id="a box without width"),
        pytest.param(["--point_prompt", "__import__('os')"], "cannot be read", id="code is not run"),
        pytest.param(["--point_prompt", "[[1,1]]", "--point_label", "[1,0]"], "one label for each", id="labels"),
        pytest.param(["--point_prompt", "[[1,1]]", "--point_label", "[2]"], "expected 1", id="label 2"),
    ],
)
def test_prompts_that_cannot_be_asked(script: ModuleType, arguments: list[str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        script.chosen_prompt(script.parser().parse_args(arguments))


def test_everything_is_drawn_into_the_output_folder(call: Any) -> None:
    code, out, err = call()
    assert (code, err) == (0, "")
    assert "coffee.jpg: " in out
    assert Path("output/coffee.jpg").is_file()
    assert cv2.imread("output/coffee.jpg").shape == (400, 600, 3)


def test_a_text_prompt_picks_one_mask(call: Any, script: ModuleType) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    prompt = script.chosen_prompt(script.parser().parse_args(["--text_prompt", "a cup", "--clip_path", "clip"]))
    assert isinstance(prompt, Text)
    assert prompt.texts == ("a cup",)
    code, out, err = call("--text_prompt", "a cup", "--clip_path", str(TINY_CLIP))
    assert (code, err) == (0, "")
    assert ": 1 masks" in out
    code, _, err = call("--text_prompt", "a cup", "--clip_path", "absent")
    assert (code, err.count("\n")) == (2, 1)
    assert "fastsam-export clip" in err


def test_the_flags_change_the_picture(call: Any) -> None:
    pictures = {}
    for name, arguments in {
        "plain": [],
        "contours": ["--withContours"],
        "one colour": ["--randomcolor", "False"],
        "better": ["--better_quality", "True"],
        "box": ["--box_prompt", "[172,20,240,265]"],
        "point": ["--point_prompt", "[[285,150]]", "--point_label", "[1]"],
    }.items():
        code, _, err = call("--output", name, *arguments)
        assert code == 0, err
        pictures[name] = cv2.imread(f"{name}/coffee.jpg").tobytes()
    assert len(set(pictures.values())) == len(pictures)


def test_retina_false_is_explained(call: Any) -> None:
    code, _, err = call("--retina", "False")
    assert code == 0
    assert "masks have the resolution of the image anyway" in err


def test_the_input_is_not_overwritten(call: Any, folder: Path) -> None:
    before = (folder / "coffee.jpg").read_bytes()
    code, _, err = call("--output", ".")
    assert code == 2
    assert "is one of the inputs and would be overwritten" in err
    assert (folder / "coffee.jpg").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--img_path", "none.jpg"], "none.jpg: no such file", id="image"),
        pytest.param(["--box_prompt", "[500,300,200,200]"], "the image reaches from (0, 0) to (600, 400)", id="box"),
        pytest.param(["--model_path", "none.onnx"], "none.onnx: no such file", id="model"),
        pytest.param(["--device", "cuda"], "cuda", id="device"),
    ],
)
def test_errors_are_one_line(call: Any, arguments: list[str], message: str) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("fastsam: ")
    assert err.count("\n") == 1
    assert message in err


def test_the_script_runs_by_itself(folder: Path, demo_onnx: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--model_path", demo_onnx, "--img_path", "coffee.jpg", "--imgsz", "320"],
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path("output/coffee.jpg").is_file()


def test_a_checkpoint_without_the_export_extra_names_the_pip_line(
    call: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_import = builtins.__import__

    def no_torch(name: str, *rest: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "torch" or name.startswith("fastsam_deploy.export"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real_import(name, *rest)

    (folder / "x.pt").write_bytes(b"never read")
    monkeypatch.setattr(builtins, "__import__", no_torch)
    code, _, err = call("--model_path", "x.pt")
    assert code == 2
    assert "pip install 'fastsam-deploy[export]'" in err


def test_an_onnx_of_somebody_else_beside_the_checkpoint_is_not_replaced(
    call: Any, folder: Path, demo_onnx: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "x.pt").write_bytes(b"never read")
    shutil.copy(demo_onnx, folder / "x.onnx")
    before = (folder / "x.onnx").read_bytes()

    class Foreign:
        def __init__(self, *_: object) -> None:
            self.spec = type("Spec", (), {"checkpoint_sha256": None})

        def __enter__(self) -> Foreign:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(script, "FastSAM", Foreign)
    code, _, err = call("--model_path", "x.pt")
    assert code == 2
    assert "was not exported by this project and would be replaced" in err
    assert (folder / "x.onnx").read_bytes() == before


@pytest.mark.export
def test_a_checkpoint_is_exported_once_and_again_when_it_changes(
    call: Any, folder: Path, demo_checkpoint: Path
) -> None:
    pytest.importorskip("torch")
    shutil.copyfile(demo_checkpoint, folder / "demo.pt")
    code, out, err = call("--model_path", "demo.pt")
    assert code == 0, err
    assert "exporting demo.pt to demo.onnx, once" in err
    first = (folder / "demo.onnx").stat().st_mtime_ns

    code, again, err = call("--model_path", "demo.pt")
    assert (code, err) == (0, "")
    assert again.split(" masks")[0] == out.split(" masks")[0]
    assert (folder / "demo.onnx").stat().st_mtime_ns == first

    # A changed checkpoint whose export cannot work: nobody is answered with the old network.
    (folder / "demo.pt").write_bytes(np.random.default_rng(0).bytes(1000))
    code, _, err = call("--model_path", "demo.pt")
    assert code == 2
    assert "exporting demo.pt" in err
