"""The command `fastsam segment` and what it is given to read: pages, bands, pipes, folders without images."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastsam_deploy.runtime.segments import Segments
from tests.command_line import run_fastsam

tifffile = pytest.importorskip("tifffile", reason="writes the files of these tests; in the extra [dev]")

FAST = ("--imgsz", "320", "--threads", "1", "--conf", "0.2")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coffee: Path) -> Path:
    """A working folder with `photos/coffee.jpg` and an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "empty").mkdir()
    shutil.copy(coffee, tmp_path / "photos")
    return tmp_path


@pytest.fixture
def segment(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """`fastsam segment` in this process: exit code, standard output, standard error."""

    def run(*arguments: str, given: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        code = run_fastsam(monkeypatch, "segment", *arguments, *FAST)
        return code, *capfd.readouterr()

    return run


def test_a_folder_without_an_image_does_not_stop_the_others(folder: Path, segment: Command) -> None:
    code, _, err = segment("empty", "photos", "*.bmp", "--json", "out.jsonl")
    assert code == 2
    assert "fastsam: empty: no image found" in err
    assert "fastsam: *.bmp: no image found" in err
    assert err.endswith("fastsam: 2 of 3 arguments failed, the images of the others are done\n")
    assert len(Path("out.jsonl").read_text().splitlines()) == 1


def test_no_image_at_all_writes_nothing(folder: Path, segment: Command) -> None:
    Path("out.jsonl").write_text("an earlier answer\n")
    code, _, err = segment("empty", "*.bmp", "--json", "out.jsonl")
    assert (code, err.splitlines()[-1]) == (2, "fastsam: no image found; see the lines above")
    code, _, err = segment("empty", "--json", "out.jsonl")
    assert (code, err.count("\n")) == (2, 1)
    assert Path("out.jsonl").read_text() == "an earlier answer\n"


def test_files_that_are_skipped_are_said_once(folder: Path, segment: Command) -> None:
    for name in ("a.psd", "b.cr2", "c.svg"):
        Path("photos", name).write_bytes(b"")
    code, _, err = segment("photos", "photos/*", "--json", "-")
    assert code == 0
    said = "fastsam: 3 files were skipped, of formats that are not read: photos/a.psd, photos/b.cr2, photos/c.svg\n"
    assert err.startswith(said)
    assert err.count("skipped") == 1


def test_standard_input_is_an_image(folder: Path, segment: Command, coffee: Path) -> None:
    code, out, _ = segment("-", "-o", "out", "--json", "-", given=coffee.read_bytes())
    assert code == 0
    assert json.loads(out)["image"] == {"path": "-", "height": 400, "width": 600}
    assert [path.name for path in Path("out").iterdir()] == ["stdin.overlay.jpg"]
    code, _, err = segment("-", "--json", "-", given=b"hello")
    assert code == 2
    assert "not an image, it begins with b'hello'" in err


def test_page_bands_and_range_are_chosen_and_recorded(folder: Path, segment: Command, coffee: Path) -> None:
    photo = np.asarray(Image.open(coffee)).astype(np.uint16) << 4
    with tifffile.TiffWriter("stack.tif") as writer:
        for pixels in (photo[:50, :60], photo[..., ::-1]):
            writer.write(np.ascontiguousarray(pixels), photometric="rgb", metadata=None)
    code, out, err = segment("stack.tif", "--json", "-", "--page", "1", "--bands", "3,2,1", "--range", "0,4095")
    assert code == 0
    record = json.loads(out)
    assert record["image"] == {
        "path": "stack.tif", "height": 400, "width": 600, "page": 1, "bands": [3, 2, 1], "range": [0, 4095],
    }  # fmt: skip
    assert len(Segments.from_json(record)) > 10
    assert err.count("\n") == 1, "what was chosen is no surprise"
    code, _, err = segment("stack.tif", "--json", "-")
    assert code == 0
    assert "fastsam: stack.tif: holds 2 images, the first was read" in err
    assert "fastsam: stack.tif: its values use " in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--page", "-1"), "page is -1"),
        (("--page", "4"), "has no page 4; it holds 1"),
        (("--bands", "3,2"), "bands is (3, 2), expected one or three"),
        (("--bands", "r,g,b"), "--bands: 'r,g,b'; expected numbers with commas"),
        (("--bands", "1,2,7"), "has no band 7; it holds 3"),
        (("--range", "wide"), "range is 'wide', expected full, minmax, percentile"),
        (("--range", "9,1"), "range is (9.0, 1.0)"),
        (("--range", "1,x"), "--range: '1,x'"),
    ],
)
def test_choices_that_cannot_be_made(folder: Path, segment: Command, options: tuple[str, str], message: str) -> None:
    code, out, err = segment("photos/coffee.jpg", "--json", "-", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert all("segments" not in json.loads(line) for line in out.splitlines())


def test_one_damaged_file_of_any_format_does_not_end_a_folder(folder: Path, segment: Command, coffee: Path) -> None:
    photo = Image.open(coffee).resize((60, 40))
    for ending in ("avif", "gif", "jpg", "png", "tif", "webp"):
        stream = io.BytesIO()
        photo.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending))
        Path("photos", f"damaged.{ending}").write_bytes(stream.getvalue()[:-40])
    code, out, err = segment("photos", "--json", "-")
    assert code == 2
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["image"]["path"] for record in records if "segments" in record] == ["photos/coffee.jpg"]
    assert [record["error"]["kind"] for record in records if "error" in record] == ["ImageError"] * 6
    assert err.endswith("fastsam: 6 of 7 images failed, the others are done; see the lines above\n")
    assert "Traceback" not in err


def test_an_address_is_told_as_it_was_given(folder: Path, segment: Command) -> None:
    code, _, err = segment("https://example.com/a/b.jpg", "photos", "--json", "-")
    assert code == 2
    assert "fastsam: https://example.com/a/b.jpg: is an address, expected a file; download it first\n" in err
    assert err.endswith("1 of 2 arguments failed, the images of the others are done\n")
