"""`fastsam segment --tiles`: the answer of Python, in JSON, pictures and records, also when a run is continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from fastsam_deploy.runtime import FastSAM, Points, Segments, Tiles
from fastsam_deploy.runtime.render import draw_segments
from tests.command_line import run_fastsam

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def segment(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, coffee: Path
) -> Command:
    """The command in a folder with a photograph of 1200 x 800 pixels: exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("large.png", cv2.resize(cv2.imread(str(coffee)), (1200, 800), interpolation=cv2.INTER_CUBIC))

    def run(*arguments: str) -> tuple[int, str]:
        code = run_fastsam(monkeypatch, "segment", "large.png", *arguments, "--imgsz", "320")
        return code, capfd.readouterr().err

    return run


def test_the_answer_is_that_of_python(segment: Command) -> None:
    code, err = segment("--tiles", "500", "--tile-overlap", "0.25", "--json", "out.jsonl", "-o", "out", "--no-contours")
    assert code == 0, err
    (line,) = Path("out.jsonl").read_text().splitlines()
    record = json.loads(line)
    with FastSAM(imgsz=320) as model:
        expected = model.segment("large.png", tiles=Tiles(500, 0.25), keep_image=True)
    assert Segments.from_json(record).masks == expected.masks
    assert record["settings"]["tiles"] == asdict(Tiles(500, 0.25))
    assert expected.image is not None
    overlay = cv2.imread("out/large.overlay.jpg")[..., ::-1]
    drawn = draw_segments(expected.image, expected, contours=False)
    assert np.abs(overlay.astype(int) - drawn).mean() < 5


def test_prompts_select_from_the_merged_segments(segment: Command) -> None:
    assert segment("--tiles", "500", "--points", "[[600, 400]]", "--json", "out.jsonl")[0] == 0
    answer = Segments.from_json(json.loads(Path("out.jsonl").read_text()))
    with FastSAM(imgsz=320) as model:
        assert answer.masks == model.segment("large.png", Points([[600, 400]]), tiles=500).masks


def test_a_run_in_other_tiles_is_not_continued(segment: Command) -> None:
    assert segment("--tiles", "500", "--json", "out.jsonl")[0] == 0
    code, err = segment("--tiles", "500", "--json", "out.jsonl", "--resume")
    assert (code, err.count("1 skipped")) == (0, 1)
    code, err = segment("--tiles", "600", "--json", "out.jsonl", "--resume")
    assert code == 2 and "images are done with other settings (tiles" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tiles", "20"], "tiles: size_px is 20, expected a whole number of 64 or more"),
        (["--tiles", "500", "--tile-overlap", "0.9"], "tiles: overlap is 0.9, expected 0 … 0.75"),
        (["--tile-overlap", "0.5"], "--tile-overlap without --tiles; add --tiles 1024"),
    ],
)
def test_tiles_that_cannot_be_are_refused_before_anything_is_written(
    segment: Command, arguments: list[str], message: str
) -> None:
    code, err = segment(*arguments, "-o", "out")
    assert code == 2 and message in err and not Path("out").exists()
