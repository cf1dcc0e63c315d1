"""Runs over folders: what is done stays done, whatever ends the run, and the next one goes on from there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastsam_deploy.runtime.segments import Segments
from tests.command_line import run_fastsam

FAST = ("--imgsz", "160", "--threads", "1", "--conf", "0.2")
START = "import sys; from fastsam_deploy.runtime.cli.main import main; sys.exit(main())"

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path, cat: Path) -> Path:
    """A working folder with six photographs: three turned copies of two."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for i in range(3):
        for path in (cat, coffee):
            Image.open(path).rotate(90 * i, expand=True).save(f"photos/{path.stem}{i}.png")
    return tmp_path


@pytest.fixture
def segment(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process: exit code and standard error."""

    def run(*arguments: str) -> tuple[int, str]:
        code = run_fastsam(monkeypatch, "segment", *arguments, *FAST)
        return code, capfd.readouterr().err

    return run


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def without_times(path: str) -> list[dict[str, Any]]:
    return sorted(({**record, "timing_ms": None} for record in records(path)), key=lambda record: record["name"])


@pytest.mark.parametrize("outputs", [("--json", "out.jsonl"), ("-o", "out"), ("--json", "out.jsonl", "-o", "out")])
def test_a_second_run_does_what_is_left(folder: Path, segment: Command, outputs: tuple[str, ...]) -> None:
    path = "out.jsonl" if "--json" in outputs else "out/.fastsam.jsonl"
    assert segment("photos", *outputs)[0] == 0
    whole = without_times(path)
    assert segment("photos/cat*.png", *outputs)[0] == 0
    code, err = segment("photos", *outputs, "--resume")
    assert (code, err.count(" segments, ")) == (0, 3)
    assert err.splitlines()[-1].startswith("fastsam: 3 done, 0 failed, 3 skipped → ")
    assert without_times(path) == whole
    code, err = segment("photos", *outputs, "--resume")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("fastsam: 0 done, 0 failed, 6 skipped")
    assert without_times(path) == whole


def test_records_name_the_files(folder: Path, segment: Command) -> None:
    assert segment("photos/c*0.png", "-o", "out", "--masks", "--cutouts", "--json", "out.jsonl")[0] == 0
    for record in records("out.jsonl"):
        count = len(Segments.from_json(record))
        assert {kind: len(paths) for kind, paths in record["files"].items()} == {
            "overlay": 1, "masks": count, "cutouts": count,
        }  # fmt: skip
        assert all(Path(path).is_file() for paths in record["files"].values() for path in paths)
        source = Path(record["image"]["path"])
        status = source.stat()
        assert record["input"] == {
            "path": str(folder / source), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns
        }  # fmt: skip
    named = {path for record in records("out.jsonl") for paths in record["files"].values() for path in paths}
    assert named == {str(path) for path in Path("out").rglob("*.*g")}


def test_a_changed_image_a_lost_file_and_a_failed_image_are_done_again(folder: Path, segment: Command) -> None:
    Path("photos/damaged.png").write_bytes(Path("photos/cat0.png").read_bytes()[:5000])
    code, err = segment("photos", "-o", "out")
    assert code == 2 and "fastsam: 6 done, 1 failed, 0 skipped → out (6 overlays)\n" in err
    assert [record["error"]["kind"] for record in records("out/.fastsam.jsonl") if "error" in record] == ["ImageError"]
    shutil.copyfile("photos/coffee1.png", "photos/cat1.png")
    os.utime("photos/coffee0.png", ns=(0, 0))
    Path("out/coffee2.overlay.jpg").unlink()
    shutil.copyfile("photos/cat0.png", "photos/damaged.png")
    code, err = segment("photos", "-o", "out", "--resume")
    done = {line.partition(":")[0] for line in err.splitlines()[:-1]}
    assert done == {f"photos/{name}.png" for name in ("cat1", "coffee0", "coffee2", "damaged")}
    assert code == 0 and err.endswith("fastsam: 4 done, 0 failed, 3 skipped → out (4 overlays)\n")
    after = records("out/.fastsam.jsonl")
    assert len(after) == len({record["name"] for record in after}) == 7, "one record for each image"
    assert not [record for record in after if "error" in record]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--iou", "0.5"), "iou was 0.9, now 0.5"),
        (("--points", "[[10,10]]"), "prompts was [], now [{"),
        (("--masks",), 'pictures was ["overlay"], now ["overlay", "masks"]'),
        (("--no-contours",), "contours was true, now false"),
        (("--range", "minmax"), 'reading was {}, now {"range": "minmax"}'),
        (("--imgsz", "192"), "imgsz was 160, now 192"),
    ],
)
def test_other_settings_are_refused(
    folder: Path, segment: Command, options: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert segment("photos/c*0.png", "-o", "out")[0] == 0
    before = Path("out/.fastsam.jsonl").read_bytes()
    if "--imgsz" in options:
        monkeypatch.setattr(sys.modules[__name__], "FAST", (*options, *FAST[2:]))
        options = ()
    code, err = segment("photos", "-o", "out", "--resume", *options)
    assert code == 2 and message in err.splitlines()[-1], err
    assert "leave it out to do all of them again" in err
    assert Path("out/.fastsam.jsonl").read_bytes() == before
    code, err = segment("photos", "-o", "out", *options)
    assert code == 0 and "6 done, 0 failed, 0 skipped" in err


def test_threads_are_no_setting_of_results(folder: Path, segment: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert segment("photos/c*0.png", "-o", "out")[0] == 0
    monkeypatch.setattr(sys.modules[__name__], "FAST", ("--imgsz", "160", "--threads", "2", "--conf", "0.2"))
    code, err = segment("photos/c*0.png", "-o", "out", "--resume")
    assert (code, err) == (0, "fastsam: 0 done, 0 failed, 2 skipped → out\n")


def test_outputs_of_images_with_one_name_do_not_meet(folder: Path, segment: Command) -> None:
    """Alone, each of them is called x."""
    for name in ("a", "b"):
        Path(name).mkdir()
        shutil.copyfile("photos/cat0.png", f"{name}/x.png")
        code, err = segment(f"{name}/x.png", "-o", "out", "--resume")
        assert (code, err.count(" segments, ")) == (0, 1)
    paths = [record["files"]["overlay"][0] for record in records("out/.fastsam.jsonl")]
    assert paths == ["out/x.overlay.jpg", "out/x-2.overlay.jpg"]
    assert segment("a", "b", "-o", "out", "--resume")[1] == "fastsam: 0 done, 0 failed, 2 skipped → out\n"


def test_an_output_folder_that_was_moved_is_continued(folder: Path, segment: Command) -> None:
    assert segment("photos/c*0.png", "-o", "out")[0] == 0
    Path("deep").mkdir()
    Path("out").rename("deep/moved")
    assert segment("photos/c*0.png", "-o", "deep/moved", "--resume")[1].startswith("fastsam: 0 done, 0 failed, 2 skip")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "-", "--resume"), "--resume without records of an earlier run: expected --output FOLDER or --json"),
        (("--json", "/dev/null", "--resume"), "--resume without records of an earlier run"),
        (("--json", "notes.txt", "--resume"), "notes.txt: line 1 is no record of an image that can be continued"),
        (("--json", "old.jsonl", "--resume"), "old.jsonl: line 1 is no record of an image that can be continued"),
    ],
)
def test_what_cannot_be_continued(folder: Path, segment: Command, arguments: tuple[str, ...], message: str) -> None:
    Path("notes.txt").write_text("my notes\n")
    Path("old.jsonl").write_text('{"image": {"path": "a.jpg", "height": 4, "width": 5}, "segments": []}\n')
    code, err = segment("photos", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert Path("notes.txt").read_text() == "my notes\n"


def test_the_record_says_what_a_picture_lacked(folder: Path, segment: Command) -> None:
    Path("out/cat0.overlay.jpg").mkdir(parents=True)  # in its place
    code, err = segment("photos/c*0.png", "-o", "out", "--json", "out.jsonl")
    assert code == 2
    assert "fastsam: 1 done, 1 failed, 0 skipped → out (1 overlay), out.jsonl\n" in err
    cat, coffee = records("out.jsonl")
    assert len(Segments.from_json(cat)) > 0 and cat["files"] == {"overlay": []}
    assert (
        cat["error"]["kind"] == "FastSamError" and "out/cat0.overlay.jpg: cannot be written" in cat["error"]["message"]
    )
    assert "error" not in coffee and coffee["files"] == {"overlay": ["out/coffee0.overlay.jpg"]}
    Path("out/cat0.overlay.jpg").rmdir()
    code, err = segment("photos/c*0.png", "-o", "out", "--json", "out.jsonl", "--resume")
    assert (code, err.splitlines()[-1]) == (0, "fastsam: 1 done, 0 failed, 1 skipped → out (1 overlay), out.jsonl")
    assert sorted(record["name"] for record in records("out.jsonl")) == ["cat0", "coffee0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_ended_goes_on(folder: Path, segment: Command, number: signal.Signals) -> None:
    for i in range(3, 60):
        shutil.copyfile(f"photos/cat{i % 3}.png", f"photos/cat{i}.png")
    start = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {START}"
    arguments = ["segment", "photos", "--json", "out.jsonl", "-o", "out", *FAST]
    process = subprocess.Popen([sys.executable, "-c", start, *arguments], stderr=subprocess.PIPE)
    path = Path("out.jsonl")
    deadline = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < 4:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    told = process.communicate(timeout=60)[1].decode().count(" segments, ")
    lines = path.read_bytes().split(b"\n")
    assert 3 <= told <= len(lines) - 1 <= told + 1 < 60
    if number == signal.SIGKILL:
        path.write_bytes(
            b"\n".join(lines[:-1]) + b"\n" + lines[0][: len(lines[0]) // 2]
        )  # the worst that a kill leaves
    else:
        assert lines[-1] == b""
    code, err = segment("photos", "--json", "out.jsonl", "-o", "out", "--resume")
    assert code == 0
    assert f", 0 failed, {len(lines) - 1} skipped" in err.splitlines()[-1]
    assert len({record["name"] for record in records("out.jsonl")}) == len(records("out.jsonl")) == 63
    assert len(list(Path("out").glob("*.jpg"))) == len(records("out.jsonl"))
