"""The command `fastsam`: what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime.cli import main as cli
from fastsam_deploy.runtime.cli.prompts import parse_prompt
from fastsam_deploy.runtime.errors import PromptError, pip_install
from fastsam_deploy.runtime.prompts.boxes import Boxes
from fastsam_deploy.runtime.prompts.points import Points
from fastsam_deploy.runtime.prompts.text import Text
from fastsam_deploy.runtime.segments import Segments
from tests.command_line import run_fastsam

FAST = ("--imgsz", "320", "--threads", "1", "--conf", "0.2")
TINY_CLIP = Path(__file__).resolve().parents[2] / "data/clip-tiny"
STAGES = {"load", "letterbox", "engine", "decode", "masks", "prompt"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path, cat: Path) -> Path:
    """A working folder with `photos/coffee.jpg` and `photos/cat.jpg`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for path in (coffee, cat):
        shutil.copy(path, tmp_path / "photos")
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Call the entry point in this process: exit code, standard output, standard error."""
    code = run_fastsam(monkeypatch, *arguments)
    out, err = capfd.readouterr()
    return code, out, err


@pytest.fixture
def fastsam(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *arguments: run(capfd, monkeypatch, *arguments)


def command(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Call the installed command in a process of its own."""
    script = Path(sys.executable).with_name("fastsam")
    assert script.is_file(), "the package is not installed"
    return subprocess.run(
        [script, *arguments], capture_output=True, text=True, encoding="utf-8", check=False, **settings
    )


def test_the_installed_command_prints_nothing_but_json(folder: Path) -> None:
    done = command("segment", "photos/coffee.jpg", "--json", "-", *FAST)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["image"] == {"path": "photos/coffee.jpg", "height": 400, "width": 600}
    assert set(found["timing_ms"]) == STAGES
    assert all(ms >= 0 for ms in found["timing_ms"].values())
    assert found["model"]["device"] == "cpu"
    assert found["model"]["conf"] == 0.2
    assert found["segments"], "the demo model finds something"
    for row in found["segments"]:
        assert {"bbox", "score", "area", "segmentation", "prompt", "fit"} <= set(row)
        assert row["prompt"] is None
        assert row["fit"] is None
        assert row["segmentation"]["size"] == [400, 600]
        x, y, w, h = row["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + w <= 600
        assert y + h <= 400
    assert "coffee.jpg:" in done.stderr
    assert not (folder / "output").exists(), "with --json alone no pictures are written"


def test_a_full_disk_behind_standard_output_is_one_line(folder: Path) -> None:
    script = Path(sys.executable).with_name("fastsam")
    with Path("/dev/full").open("wb") as full:
        asked = [script, "segment", "photos/coffee.jpg", "--json", "-", *FAST]
        done = subprocess.run(asked, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "fastsam: standard output: cannot be written (No space left on device); make room, or name another file\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_the_json_can_be_read_back(folder: Path, fastsam: Any) -> None:
    code, out, _ = fastsam("segment", "photos", "--json", "-", *FAST)
    assert code == 0
    items = [json.loads(line) for line in out.splitlines()]
    assert [item["image"]["path"] for item in items] == ["photos/cat.jpg", "photos/coffee.jpg"]
    for item in items:
        back = Segments.from_json(item)
        assert back.image_hw == (item["image"]["height"], item["image"]["width"])
        assert back.areas.tolist() == [row["area"] for row in item["segments"]]


def test_a_json_file_holds_a_line_for_each_image(folder: Path, fastsam: Any) -> None:
    code, out, _ = fastsam("segment", "photos/*.jpg", "--json", "out.jsonl", *FAST)
    assert code == 0
    assert out == ""
    assert [json.loads(line)["image"]["width"] for line in Path("out.jsonl").read_text().splitlines()] == [451, 600]
    assert sorted(path.name for path in folder.iterdir()) == ["out.jsonl", "photos"]


def test_by_default_an_overlay_is_written(folder: Path, fastsam: Any) -> None:
    code, _, err = fastsam("segment", "photos/coffee.jpg", *FAST)
    assert code == 0
    assert "output/coffee.overlay.jpg" in err
    overlay = cv2.imread("output/coffee.overlay.jpg")
    assert overlay.shape == (400, 600, 3)
    assert np.abs(overlay.astype(int) - cv2.imread("photos/coffee.jpg")).mean() > 0.5


def test_masks_and_cutouts_are_those_of_the_json(folder: Path, fastsam: Any) -> None:
    code, out, _ = fastsam(
        "segment", "photos/coffee.jpg", "--masks", "--cutouts", "--output", "o", "--json", "-", *FAST
    )
    assert code == 0
    rows = json.loads(out)["segments"]
    masks = sorted(Path("o/coffee.masks").iterdir())
    cutouts = sorted(Path("o/coffee.cutouts").iterdir())
    assert len(masks) == len(cutouts) == len(rows)
    for row, mask, cutout in zip(rows, masks, cutouts, strict=True):
        pixels = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        assert pixels.shape == (400, 600)
        assert set(np.unique(pixels)) <= {0, 255}
        assert np.count_nonzero(pixels) == row["area"]
        assert np.count_nonzero(cv2.imread(str(cutout), cv2.IMREAD_UNCHANGED)[..., 3]) == row["area"]


def test_images_of_the_same_name_keep_all_their_outputs(folder: Path, fastsam: Any) -> None:
    for number, size in (("1", (64, 48)), ("2", (48, 64))):
        Path(number).mkdir()
        Image.new("RGB", size).save(f"{number}/x.png")
    code, _, _ = fastsam("segment", "1", "2", "--output", "o", *FAST)
    assert code == 0
    assert cv2.imread("o/1/x.overlay.jpg").shape == (48, 64, 3)
    assert cv2.imread("o/2/x.overlay.jpg").shape == (64, 48, 3)


def test_the_input_is_never_overwritten(folder: Path, fastsam: Any) -> None:
    content = Path("photos/coffee.jpg").read_bytes()
    Path("photos/coffee.overlay.jpg").write_bytes(content)
    code, _, err = fastsam("segment", "photos/coffee.jpg", "photos/coffee.overlay.jpg", "--output", "photos", *FAST)
    assert code == 2
    assert "is one of the inputs and would be overwritten" in err
    assert Path("photos/coffee.jpg").read_bytes() == content
    assert Path("photos/coffee.overlay.jpg").read_bytes() == content
    assert Path("photos/coffee.overlay.overlay.jpg").is_file(), "the other image is done"


@pytest.mark.parametrize(
    "arguments",
    [
        "segment photos/coffee.jpg --json photos/coffee.jpg",
        "segment photos --json photos/../photos/coffee.jpg",
        "segment photos --json linked.jpg",
        "segment photos --model m.onnx --json m.onnx",
        "segment photos --model ./m.onnx --json {folder}/m.onnx",
        "segment photos --model hard.onnx --json m.onnx",
        "segment photos --model m.plan --json m.json",
        "segment photos --text dog --clip clip --json clip/clip.json",
        "video clip.avi -o clip.avi",
        "video ./clip.avi -o {folder}/clip.avi",
        "video clip.avi -o linked.avi",
        "video linked.avi -o clip.avi",
        "video clip.avi -o hard.avi",
        "video clip.avi --json clip.avi",
        "video clip.avi --json linked.avi",
        "video clip.avi -o x.avi --json x.avi",
        "video clip.avi -o x.avi --json photos/../x.avi",
        "video clip.avi --model m.onnx --json m.onnx",
        "bench speed photos --json photos/coffee.jpg",
        "bench speed photos -m m.onnx --json m.onnx",
        "bench fidelity m.onnx other=m.onnx -i photos --json hard.onnx",
        "bench fidelity m.onnx other=m.onnx -i photos --json photos/cat.jpg",
        "bench fidelity m.onnx other=m.onnx -i photos -o o --json o/report.json",
        "bench fidelity report.plan other=m.onnx -i photos -o .",
    ],
)
def test_no_output_replaces_an_input_or_another_output(folder: Path, fastsam: Any, arguments: str) -> None:
    for name in ("m.onnx", "clip.avi", "m.plan", "m.json", "report.plan", "report.json", "clip/clip.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"neither a model nor a video: nothing opens it before the check")
    Path("linked.jpg").symlink_to("photos/coffee.jpg")
    Path("linked.avi").symlink_to("clip.avi")
    os.link("clip.avi", "hard.avi")
    os.link("m.onnx", "hard.onnx")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, out, err = fastsam(*arguments.format(folder=folder).split())
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "would be overwritten; choose another --" in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_picture_does_not_replace_the_json_of_the_same_run(folder: Path, fastsam: Any) -> None:
    code, _, err = fastsam("segment", "photos/coffee.jpg", "-o", ".", "--json", "coffee.overlay.jpg", *FAST)
    assert code == 2
    message = "coffee.overlay.jpg: is the file of --json and would be overwritten; choose another --output"
    assert message in err
    assert sorted(path.name for path in folder.iterdir()) == ["coffee.overlay.jpg", "photos"]
    record = json.loads(Path("coffee.overlay.jpg").read_text())
    assert record["segments"] and record["files"] == {"overlay": []} and record["error"]["message"] == message


def test_running_again_over_the_same_folder_does_not_segment_the_overlays(folder: Path, fastsam: Any) -> None:
    for _ in range(2):
        code, out, _ = fastsam("segment", "photos", "--output", "photos", "--json", "-", *FAST)
        assert code == 0
        assert len(out.splitlines()) == 2


def test_a_bad_image_does_not_stop_the_others(folder: Path, fastsam: Any) -> None:
    Path("photos/broken.jpg").write_bytes(Path("photos/cat.jpg").read_bytes()[:9000])
    Path("photos/empty.png").touch()
    code, out, err = fastsam("segment", "photos", "none.jpg", "--json", "-", *FAST)
    assert code == 2
    records = [json.loads(line) for line in out.splitlines()]
    paths = [f"photos/{name}" for name in ("broken.jpg", "cat.jpg", "coffee.jpg", "empty.png")]
    assert [record["image"]["path"] for record in records] == [*paths, "none.jpg"]
    assert [record["error"]["message"] in err if "error" in record else None for record in records] == [
        *(True, None, None, True, True)
    ]
    assert [record["image"]["path"] for record in records if "segments" in record] == paths[1:3]
    assert "fastsam: photos/broken.jpg: 451×300 JPEG image is damaged or cut short" in err
    assert "fastsam: photos/empty.png: is empty" in err
    assert "fastsam: none.jpg: no such file" in err
    assert "fastsam: 2 done, 3 failed, 0 skipped\n" in err
    assert err.splitlines()[-1].startswith("fastsam: 3 of 5 images failed, the others are done")


@pytest.mark.parametrize("images", [["none.jpg"], ["none.jpg", "nor-this.jpg"]], ids=["one", "two"])
def test_where_all_images_fail_an_earlier_answer_stays(folder: Path, fastsam: Any, images: list[str]) -> None:
    Path("out.jsonl").write_text("earlier\n")
    code, _, err = fastsam("segment", *images, "--json", "out.jsonl")
    assert code == 2
    assert err.splitlines()[-1] in (
        f"fastsam: none.jpg: no such file; expected an image; looked in {folder}",
        "fastsam: all 2 images failed; see the lines above",
    )
    assert Path("out.jsonl").read_text() == "earlier\n"
    assert not list(folder.glob(".*"))


def test_a_prompt_outside_one_of_the_images_names_it(folder: Path, fastsam: Any) -> None:
    code, out, err = fastsam("segment", "photos", "--points", "[[500,350]]", "--json", "-", *FAST)
    assert code == 2
    cat, coffee = (json.loads(line) for line in out.splitlines())
    assert cat["error"]["kind"] == "PromptError" and "segments" not in cat
    assert coffee["image"]["path"] == "photos/coffee.jpg" and coffee["segments"]
    assert "fastsam: photos/cat.jpg: point 0 is at (500, 350)" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["photos/none.jpg"], "photos/none.jpg: no such file", id="missing image"),
        pytest.param(["photos/*.tiff"], "no image found", id="pattern without a match"),
        pytest.param(["photos", "--model", "none.onnx"], "none.onnx: no such file", id="missing model"),
        pytest.param(["photos", "--model", "photos/cat.jpg"], "suffix '.jpg', expected", id="not a model"),
        pytest.param(["photos", "--conf", "1.5"], "conf is 1.5", id="conf"),
        pytest.param(["photos", "--iou", "0"], "iou is 0", id="iou"),
        pytest.param(["photos", "--max-det", "0"], "max_det is 0", id="max-det"),
        pytest.param(["photos", "--imgsz", "1000"], "use 992 or 1024", id="imgsz"),
        pytest.param(["photos", "--threads", "0"], "threads is 0", id="threads"),
        pytest.param(["photos", "--device", "tpu"], "'tpu'", id="device"),
        pytest.param(["photos", "--points", "520;360"], "--points: '520;360' is not JSON", id="points"),
        pytest.param(["photos", "--points", "[[1,2,3]]"], "points have shape (1, 3)", id="three numbers"),
        pytest.param(["photos", "--points", ""], "--points: '' is not JSON", id="an empty variable"),
        pytest.param(["photos", "--points", "[]"], "at least one", id="no points"),
        pytest.param(["photos", "--points", "[[1,2]]", "--labels", "[1,0]"], "one label for each", id="labels"),
        pytest.param(["photos", "--labels", "[1]"], "--labels [1] without --points", id="labels alone"),
        pytest.param(["photos/cat.jpg", "--points", "[[-1,5]]"], "point 0 is at (-1, 5)", id="negative (ul #25916)"),
        pytest.param(["photos", "--boxes", "[[9,9,1,1]]"], "box 0", id="box inside out"),
        pytest.param(["photos", "--boxes", "{"], "--boxes: '{' is not JSON", id="boxes"),
        pytest.param(["photos", "--json", "none/x.json"], "none/x.json: cannot be written", id="no folder for JSON"),
        pytest.param(["photos", "--output", "photos/cat.jpg"], "cannot make this folder", id="output is a file"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(folder: Path, fastsam: Any, arguments: list[str], message: str) -> None:
    code, out, err = fastsam("segment", *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("fastsam: ")
    assert message in err
    assert not list(folder.glob(".*")), "a temporary file is left"


def test_an_image_too_large_is_told_what_to_do(folder: Path, fastsam: Any) -> None:
    """No option moves the limit, so that a size is told that it takes."""
    Image.new("1", (20_000, 10_000)).save("large.png")
    code, _, err = fastsam("segment", "large.png", *FAST)
    assert (code, err.count("\n")) == (2, 1)
    assert "200,000,000 pixels, the limit is 178,956,970; make the image smaller, 18918×9459 at most" in err


def test_usage_errors_exit_with_2_too(fastsam: Any) -> None:
    assert fastsam("segment")[0] == 2
    assert fastsam("segment", "a.jpg", "--colour")[0] == 2
    assert fastsam("segment", "a.jpg", "--points-mode", "some")[0] == 2


def test_a_bug_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fastsam_deploy.runtime.batch.images.segment_files", broken)
    monkeypatch.setattr(sys, "argv", ["fastsam", "segment", "photos"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_the_file_with_an_exif_orientation_is_answered_upright(folder: Path, fastsam: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open("photos/coffee.jpg").save("turned.jpg", exif=exif)
    code, out, _ = fastsam("segment", "turned.jpg", "--json", "-", *FAST)
    assert code == 0
    assert json.loads(out)["image"] == {"path": "turned.jpg", "height": 600, "width": 400}


# CASIA #80, ultralytics #17623: no detection, crash.
def test_an_image_with_nothing_in_it_has_an_empty_answer(folder: Path, fastsam: Any) -> None:
    Image.new("RGB", (300, 200), (128, 128, 128)).save("gray.png")
    code, out, err = fastsam(
        "segment", "gray.png", "--points", "[[5,5]]", "--boxes", "[[0,0,50,50]]", "--conf", "0.9999",
        "--json", "-", "--output", "o", "--masks", "--cutouts",
    )  # fmt: skip
    assert code == 0
    assert json.loads(out)["segments"] == []
    assert "gray.png: 0 segments" in err
    assert Path("o/gray.overlay.jpg").is_file()


@pytest.mark.parametrize("points_mode", ["merge", "each", "all"])
def test_prompts_number_their_answers(folder: Path, fastsam: Any, points_mode: str) -> None:
    code, out, _ = fastsam(
        "segment", "photos/coffee.jpg", "--points", "[[285,150],[365,280]]", "--points-mode", points_mode,
        "--boxes", "[[0,0,600,400],[325,235,410,325]]", "--json", "-", *FAST,
    )  # fmt: skip
    assert code == 0
    rows = json.loads(out)["segments"]
    points = 2 if points_mode == "each" else 1
    assert {row["prompt"] for row in rows} <= set(range(points + 2))
    assert {points, points + 1} <= {row["prompt"] for row in rows}, "both boxes are answered"
    assert all(0 <= row["fit"] <= 1 for row in rows)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        pytest.param((None, None, None), None, id="everything"),
        pytest.param(("[[1,2],[3,4]]", "[1,0]", None), Points, id="points"),
        pytest.param(("[1,2]", None, None), Points, id="one point, flat"),
        pytest.param(("1,2", "1", "1,2,3,4"), [Points, Boxes], id="without brackets"),
        pytest.param((None, None, "[1,2,3,4]"), Boxes, id="one box, flat"),
        pytest.param(("[[1,2]]", None, "[[1,2,3,4]]"), [Points, Boxes], id="both"),
    ],
)
def test_parse_prompt(given: tuple[str | None, str | None, str | None], kinds: Any) -> None:
    found = parse_prompt(given[0], given[1], "merge", given[2])
    if kinds is None:
        assert found is None
    elif isinstance(kinds, list):
        assert isinstance(found, Sequence)
        assert [type(one) for one in found] == kinds
    else:
        assert isinstance(found, kinds)


@pytest.mark.parametrize(
    ("points", "labels", "xy", "expected"),
    [
        (["160,122", "300,90"], None, [[160, 122], [300, 90]], [1, 1]),
        (["160, 122.5", "-0.5,90"], ["1,0"], [[160, 122.5], [-0.5, 90]], [1, 0]),
        (["160,122", "[[300,90],[5,6]]"], ["1", "[0, 1]"], [[160, 122], [300, 90], [5, 6]], [1, 0, 1]),
        (["[160,122]", "[300,90]"], ["1", "0"], [[160, 122], [300, 90]], [1, 0]),
    ],
)
def test_points_are_repeated_or_json(points: list[str], labels: Any, xy: Any, expected: list[int]) -> None:
    prompt = parse_prompt(points, labels, "merge", None)
    assert isinstance(prompt, Points)
    assert prompt.xy.tolist() == xy
    assert prompt.to_json().get("labels", [1] * len(xy)) == expected


def test_boxes_are_repeated_or_json() -> None:
    for boxes in (["1,2,3,4", "5,6,7,8"], ["[[1,2,3,4]]", "5,6,7,8"], "[[1,2,3,4],[5,6,7,8]]"):
        prompt = parse_prompt(None, None, "merge", boxes)
        assert isinstance(prompt, Boxes) and prompt.xyxy.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize("points", [["1,2,3", "4,5"], ["1,2", "3"], ["1..2,3"], ["1,2", "{}"], ["1,2", "[[3,4],5]"]])
def test_points_that_are_none(points: list[str]) -> None:
    with pytest.raises(PromptError):
        parse_prompt(points, None, "merge", None)


def test_texts_are_a_prompt_beside_the_others() -> None:
    one = parse_prompt(None, None, "merge", None, ["a dog", "a cat"])
    assert isinstance(one, Text)
    assert one.texts == ("a dog", "a cat")
    both = parse_prompt("[[1, 2]]", None, "merge", None, ["a dog"])
    assert [type(prompt) for prompt in both] == [Points, Text]


def test_each_text_picks_a_segment(folder: Path, fastsam: Any) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    asked = ["--text", "a cup", "--text", "the table", "--boxes", "[[200, 60, 420, 260]]", "--clip", str(TINY_CLIP)]
    code, out, err = fastsam("segment", "photos/coffee.jpg", *asked, "--json", "-", "--output", "o", *FAST)
    assert code == 0, err
    found = json.loads(out)
    assert [row["prompt"] for row in found["segments"]] == [0, 1, 2]
    assert [row["probability"] is None for row in found["segments"]] == [True, False, False]
    assert found["model"]["clip"]["name"] == "tiny-random"
    assert Path("o/coffee.overlay.jpg").is_file()


def test_a_text_as_json_asks_the_clip_too(folder: Path, fastsam: Any) -> None:
    pytest.importorskip("tokenizers", reason="needs the extra [clip]")
    answers = []
    for asked in (["--text", "a cup"], ["--prompt", '{"text": "a cup"}']):
        code, out, err = fastsam("segment", "photos/cat.jpg", *asked, "--clip", str(TINY_CLIP), "--json", "-", *FAST)
        assert code == 0, err
        answers.append(json.loads(out)["segments"])
    assert len(answers[0]) == 1
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text", "a dog"], "--text without --clip; expected the folder of a CLIP model; make one with"),
        (["--clip", "clip"], "--clip without --text"),
        (["--clip", "clip", "--text", " "], "text 0 is ' ', expected words"),
        (["--clip", "absent", "--text", "a dog"], "absent/clip.json: No such file or directory; expected a folder"),
    ],
)
def test_texts_that_cannot_be_asked(folder: Path, fastsam: Any, arguments: list[str], message: str) -> None:
    code, out, err = fastsam("segment", "photos/coffee.jpg", *arguments, *FAST)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_any_prompt_as_json_joins_the_others() -> None:
    asked = ['{"text": "a dog", "mode": "dense"}', '{"points": [3, 4], "mode": "each"}']
    found = parse_prompt(None, None, "merge", "[1,2,3,4]", ["a cat"], asked)
    assert [type(prompt) for prompt in found] == [Boxes, Text, Text, Points]
    assert (found[2], found[3].mode) == (Text("a dog", "dense"), "each")
    assert isinstance(parse_prompt(None, None, "merge", None, None, asked[:1]), Text)


def test_a_prompt_as_json_is_answered_as_its_option(folder: Path, fastsam: Any) -> None:
    box, answers = "[[325,235,410,325]]", []
    for option in (("--boxes", box), ("--prompt", f'{{"boxes": {box}}}')):
        code, out, err = fastsam("segment", "photos/coffee.jpg", *option, "--json", "-", *FAST)
        assert code == 0, err
        answers.append(json.loads(out)["segments"])
    assert len(answers[0]) == 1
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("boxes", """--prompt: 'boxes' is not JSON"""),
        (
            "[[1,2]]",
            """--prompt: a prompt is [[1, 2]]; expected {"points": [[x, y], …], "labels": [1, …]}, {"boxes\"""",
        ),
        ('{"boxes": [[1,2,9,9]], "mode": "each"}', "boxes: unknown key 'mode'; known keys are boxes"),
        ('{"points": [[9000, 1]]}', "point 0 is at (9000, 1)"),
        ('{"text": "a dog"}', "--text without --clip; expected the folder of a CLIP model"),
        ('{"text": "a dog", "max_masks": "all"}', "max_masks is 'all', expected a whole number"),
    ],
)
def test_a_prompt_that_cannot_be_read(folder: Path, fastsam: Any, asked: str, message: str) -> None:
    code, out, err = fastsam("segment", "photos/coffee.jpg", "--prompt", asked, *FAST)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_huge_json_in_a_prompt_is_cut_in_the_message() -> None:
    with pytest.raises(PromptError) as caught:
        parse_prompt("[" * 5000, None, "merge", None)
    assert len(str(caught.value)) < 300


def test_version() -> None:
    done = command("--version")
    assert done.stdout == "fastsam-deploy 0.1.0\n"
    assert done.returncode == 0


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, fastsam_deploy.runtime.cli.main as cli\n"
        "sys.argv = ['fastsam', 'segment', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print({'numpy', 'cv2', 'onnxruntime', 'PIL', 'pycocotools'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True)
    assert "--points-mode" in done.stdout
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_missing_opencv_is_told_in_one_line(folder: Path) -> None:
    (folder / "cv2.py").write_text("raise ModuleNotFoundError('No module named cv2', name='cv2')\n")
    rest = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), rest]))}
    done = command("segment", "photos/cat.jpg", env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"fastsam: OpenCV is not installed; run: {pip_install('cpu')}\n"
    done = command("doctor", env=environment)
    assert done.returncode == 2
    assert "onnxruntime cpu" in done.stdout
    assert "pip install 'fastsam-deploy[cpu]'" in done.stdout
    assert done.stderr == "fastsam: no engine works on this machine; see the reasons above\n"


def test_doctor_for_machines(fastsam: Any, demo_onnx: Path) -> None:
    code, out, err = fastsam("doctor", "--json", "--model", str(demo_onnx))
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert {"fastsam_deploy", "python", "packages", "cpu", "engines", "libraries", "model"} <= set(report)
    engines = {row["name"]: row for row in report["engines"]}
    assert engines["onnxruntime cpu"]["works"]
    assert engines["onnxruntime cpu"]["ms"] > 0
    for row in report["engines"] + report["libraries"]:
        assert row["works"] is (row["reason"] is None), "what does not work has a reason"
    assert report["cpu"]["usable"] >= 1
    assert report["model"]["bytes"] == demo_onnx.stat().st_size
    assert len(report["model"]["sha256"]) == 64
    assert report["model"]["stride"] == 32


def test_doctor_for_people(fastsam: Any) -> None:
    code, out, _ = fastsam("doctor")
    assert code == 0
    for word in ("Versions", "numpy", "Processor", "usable by this process", "Engines", "works:", "Libraries", "Model"):
        assert word in out


def test_doctor_without_a_model_says_why_nothing_works(fastsam: Any) -> None:
    code, out, err = fastsam("doctor", "--model", "none.onnx")
    assert code == 2
    assert "no: none.onnx: no such file" in out
    assert "no engine works" in err


def test_isolated_files_give_the_same_segments(folder: Path, fastsam: Any) -> None:
    options = ("photos", "--imgsz", "160", "--json", "-")
    plain, isolated = fastsam("segment", *options), fastsam("segment", *options, "--isolate")
    assert plain[0] == isolated[0] == 0
    for line, other in zip(plain[1].splitlines(), isolated[1].splitlines(), strict=True):
        assert json.loads(line)["segments"] == json.loads(other)["segments"]
    (folder / "photos/bad.jpg").write_bytes(b"no image")
    code, _, errors = fastsam("segment", *options, "--isolate")
    assert code == 2 and "1 of 3 images failed" in errors and "bad.jpg: " in errors


PIPE_OF_CLIP = ("segment", "photos/cat.jpg", "--imgsz", "160", "--text", "a cat", "--clip", "clip")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segment", "photos/..jpg", "--imgsz", "160", "-o", "out", "--masks"), None),
        (("segment", "photos/" + "x" * 300 + ".jpg"), "File name too long"),
        (("segment", "photos/" + "y" * 247 + ".jpg", "--imgsz", "160", "-o", "out"), "choose a shorter name"),
        (("segment", "sparse.jpg"), "not an image"),
        (("segment", "sparse.gif"), "the limit is 2"),
        (("segment", "sparse.tif"), "get the file again"),
        (("segment", "photos/cat.jpg", "--model", "sparse.onnx"), "expected an ONNX model"),
        (("segment", "photos/cat.jpg", "--model", "pipe.onnx"), "no such file"),
        (("video", "pipe.avi", "-o", "out.avi"), "no such file"),
        (("video", "sparse.avi", "-o", "out.avi"), "sparse.avi: "),
        (PIPE_OF_CLIP, "is no regular file"),
        (("segment", "photos/cat.jpg", "--imgsz", "160000"), "expected 16384 pixels or fewer"),
        (("segment", "photos/cat.jpg", "--threads", "99999999999"), "expected a whole number from 1 to 4096"),
    ],
    ids=lambda value: "" if value is None or isinstance(value, str) else " ".join(value)[:30],
)
def test_paths_and_numbers_that_nobody_expects(folder: Path, fastsam: Any, arguments: tuple[str, ...], message: str):
    """Each is done, or an error of one line, at once: a pipe has no end, and a file of 20 GB no content."""
    for name in ("..jpg", "y" * 247 + ".jpg"):
        shutil.copy(folder / "photos/cat.jpg", folder / "photos" / name)
    for name, start in (("tif", b"II*\0\b\0\0\0"), ("gif", b"GIF89a"), ("jpg", b""), ("onnx", b""), ("avi", b"RIFF")):
        with (folder / f"sparse.{name}").open("wb") as file:
            file.write(start)
            file.truncate(20 << 30)
    for name in ("pipe.onnx", "pipe.avi"):
        os.mkfifo(folder / name)
    (folder / "clip").mkdir()
    os.mkfifo(folder / "clip/clip.json")
    code, _, errors = fastsam(*arguments)
    if message is None:
        assert code == 0 and (folder / "out/..jpg.masks/000.png").is_file()
        return
    lines = [line for line in errors.splitlines() if message in line]
    assert code == 2 and len(lines) == 1 and "Traceback" not in errors, errors


@pytest.mark.parametrize("source", ["/dev/stdin", "-", "/dev/fd/{}"])
def test_pipes_are_read(folder: Path, source: str) -> None:
    reading, writing = os.pipe()
    arguments = ["-m", "fastsam_deploy.runtime.cli", "segment", source.format(reading), "--imgsz", "320", "--json", "-"]
    with (folder / "photos/cat.jpg").open("rb") as photo:
        content = photo.read()
    writer = threading.Thread(target=lambda: (os.write(writing, content), os.close(writing)))
    writer.start()
    done = subprocess.run(
        [sys.executable, *arguments], stdin=reading, pass_fds=[reading], capture_output=True, check=False, timeout=60
    )
    writer.join()
    os.close(reading)
    assert done.returncode == 0 and len(json.loads(done.stdout)["segments"]) > 3, done.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become somebody else")
def test_folders_that_may_not_be_read(folder: Path, coffee: Path) -> None:
    """One of them among the arguments stops nothing else; tried as a user without rights."""
    for name in ("closed", "half"):
        (folder / name).mkdir()
        shutil.copy(folder / "photos/cat.jpg", folder / name)
    (folder / "closed").chmod(0o000)
    (folder / "half").chmod(0o444)  # its names can be read, its files cannot
    program = "import os, sys; from fastsam_deploy.runtime.sources.paths import search_images\n"
    program += "search_images(sys.argv[3:]); os.setgid(65534); os.setuid(65534)\n"
    program += "for argument in sys.argv[1:]:\n    s = search_images([argument]); print(len(s.paths), *s.errors)"
    folders = [str(folder / name) for name in ("closed", "half", "photos")]
    for place in (folder, *folder.parents[:-1]):
        place.chmod(place.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-B", "-c", program, *folders], capture_output=True, text=True, check=False)
    (folder / "closed").chmod(0o700)
    (folder / "half").chmod(0o700)
    assert done.returncode == 0, done.stderr
    closed, half, photos = done.stdout.splitlines()
    assert "closed: cannot be searched (Permission denied)" in closed and photos == "2"
    assert "half" in half
