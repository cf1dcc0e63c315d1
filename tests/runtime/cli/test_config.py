"""--config: options from a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import run_fastsam

Command = Callable[..., tuple[int, str, str]]

CONFIG = """
imgsz = 320
threads = 1
conf = 0.2
json = "out.jsonl"

[segment]
points = [[285, 150], [60, 60]]
points_mode = "each"
save = ["overlay", "masks"]
range = [0, 255]
bands = [3, 2, 1]
contours = false
prompt = [{boxes = [[200, 60, 420, 260]]}, {points = [9, 9]}]

[video]
output = "x.mp4"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(coffee, tmp_path)
    Path("fastsam.toml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def fastsam(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = run_fastsam(monkeypatch, *arguments)
        return code, *capfd.readouterr()

    return run


def test_a_file_stands_for_the_same_options(folder: Path, fastsam: Command) -> None:
    assert fastsam("segment", "coffee.jpg", "--config", "fastsam.toml")[0] == 0
    from_file = json.loads(Path("out.jsonl").read_text())
    shutil.rmtree("output")
    given = ["--points", "285,150", "--points", "60,60", "--points-mode", "each", "--save", "overlay,masks"]
    given += ["--prompt", '{"boxes": [[200, 60, 420, 260]]}', "--prompt", '{"points": [9, 9]}', "--no-contours"]
    given += ["--range", "0,255", "--bands", "3,2,1", "--imgsz", "320", "--threads", "1", "--conf", "0.2"]
    assert fastsam("segment", "coffee.jpg", "--json", "out.jsonl", *given)[0] == 0
    from_options = json.loads(Path("out.jsonl").read_text())
    for record in (from_file, from_options):
        del record["timing_ms"]
    assert from_file == from_options
    assert {row["prompt"] for row in from_file["segments"]} >= {0, 1, 2}


def test_the_command_line_comes_first(folder: Path, fastsam: Command) -> None:
    code, out, _ = fastsam(
        "segment", "coffee.jpg", "--config", "fastsam.toml", "--json", "-", "--conf", "0.6", "--points", "9,9"
    )
    assert code == 0
    record = json.loads(out)
    assert record["model"]["conf"] == 0.6 and record["model"]["imgsz"] == 320
    assert record["settings"]["prompts"][0]["points"] == [[9, 9]]
    assert not Path("out.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cnf = 0.3", "bad.toml: segment has no option 'cnf'; did you mean 'conf'?"),
        ("[segment]\nfps = 3", "bad.toml: segment has no option 'fps'; known are bands, boxes,"),
        ("[segments]\nconf = 0.3", "bad.toml: segment has no option 'segments'"),
        ("config = 'x'", "bad.toml: segment has no option 'config'"),
        ("conf = ", "bad.toml: is not TOML ("),
        ("resume = 'yes'", "bad.toml: resume is 'yes', expected true or false"),
        ("segment = 3", "bad.toml: segment is 3, expected a table [segment]"),
        ("conf = 1.5", "conf is 1.5, expected 0 ≤ conf < 1"),
        ("points = 3", "points have shape"),
        ("[video]\noutput = 'x.mp4'\nnonsense = 1", ""),
    ],
)
def test_what_is_wrong_with_a_file(folder: Path, fastsam: Command, text: str, message: str) -> None:
    Path("bad.toml").write_text(text)
    code, out, err = fastsam("segment", "coffee.jpg", "--config", "bad.toml", "--imgsz", "160", "--json", "-")
    if not message:
        assert code == 0, "tables of other commands are theirs"
        return
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err


def test_a_value_of_another_type_is_a_usage_error(folder: Path, fastsam: Command) -> None:
    Path("bad.toml").write_text("conf = 'high'\n")
    code, _, err = fastsam("segment", "coffee.jpg", "--config", "bad.toml")
    assert code == 2 and "Invalid value for '--conf'" in err


def test_a_file_that_is_missing_or_for_another_command(folder: Path, fastsam: Command) -> None:
    code, _, err = fastsam("segment", "coffee.jpg", "--config", "none.toml")
    assert (code, err.count("\n")) == (2, 1) and "none.toml: cannot be read (No such file" in err
    Path("fastsam.toml").write_text("recursive = true")
    code, _, err = fastsam("video", "coffee.avi", "--config", "fastsam.toml")
    assert code == 2 and "fastsam.toml: video has no option 'recursive'" in err
