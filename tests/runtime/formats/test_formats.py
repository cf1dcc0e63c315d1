"""Files of segments: those of earlier versions, those that are damaged, and a format that somebody adds."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from fastsam_deploy.runtime import FastSamError, Segments, formats
from tests.data.segments import make

OLD = Path(make.__file__).parent

TOY = '''
"""A format of one file."""
from . import Columns, LoadedColumns
from .npz import decode as decode_npz, encode as encode_npz

SUFFIX = ".toy"

def encode(columns: Columns) -> bytes:
    return b"toy" + encode_npz(columns)

def decode(content: bytes) -> Columns:
    return decode_npz(content.removeprefix(b"toy"))
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A second folder of formats."""
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_files_of_earlier_versions_are_read(suffix: str):
    loaded, expected = Segments.load(OLD / f"old{suffix}"), make.segments()
    assert loaded.masks == expected.masks
    np.testing.assert_array_equal(loaded.boxes_xyxy, expected.boxes_xyxy)
    for name in ("scores", "classes", "prompts", "fits", "probabilities"):
        np.testing.assert_allclose(getattr(loaded, name), getattr(expected, name), atol=1e-6, err_msg=name)
    assert loaded.class_names == expected.class_names
    if suffix == ".npz":
        assert loaded == expected


def test_json_is_that_of_earlier_versions_to_the_byte(tmp_path: Path):
    make.segments().save(tmp_path / "x.json")
    assert (tmp_path / "x.json").read_bytes() == (OLD / "old.json").read_bytes()


def test_npz_is_that_of_earlier_versions_array_by_array(tmp_path: Path):
    """So that they read what this one writes."""
    make.segments().save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as ours, np.load(OLD / "old.npz") as theirs:
        assert list(ours) == list(theirs)
        for name in theirs:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_npz_without_probabilities_is_read(tmp_path: Path):
    with np.load(OLD / "old.npz") as arrays:
        np.savez(tmp_path / "x.npz", **{name: arrays[name] for name in arrays if name != "probabilities"})
    assert np.isnan(Segments.load(tmp_path / "x.npz").probabilities).all()


@pytest.mark.parametrize("at", range(0, 2000, 37))
def test_a_damaged_npz_is_refused_or_harmless(tmp_path: Path, at: int):
    content = bytearray((OLD / "old.npz").read_bytes())
    content[at] ^= 0x55
    (tmp_path / "x.npz").write_bytes(content)
    with suppress(FastSamError):
        Segments.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("crop_bits", np.zeros(3, np.uint8)),
        ("crop_bits", np.zeros(3, np.float32)),
        ("crop_hw", np.array([[-1, -1]] * 4)),
        ("crop_hw", np.array([1, 2, 3, 4])),
        ("corners_xy", np.full((4, 2), 99)),
        ("corners_xy", np.zeros((3, 2), np.int64)),
        ("scores", np.zeros(3, np.float32)),
        ("image_hw", np.array([3])),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path, name: str, values: np.ndarray):
    with np.load(OLD / "old.npz") as arrays:
        np.savez(tmp_path / "x.npz", **{**arrays, name: values})
    with pytest.raises(FastSamError, match=r"x\.npz: .*expected"):
        Segments.load(tmp_path / "x.npz")


def test_a_format_is_one_file(folder: Path):
    (folder / "toy.py").write_text(TOY, encoding="utf-8")
    segments = make.segments()
    segments.save(folder / "x.toy")
    assert (folder / "x.toy").read_bytes().startswith(b"toy")
    assert Segments.load(folder / "x.toy") == segments
    assert "toy" in [form.name for form in formats.available()]
    with pytest.raises(
        FastSamError, match=r"suffix '\.doc', expected \.csv or \.json or \.npz or \.png or \.toy or \.txt"
    ):
        segments.save(folder / "x.doc")


def test_a_format_with_the_suffix_of_another_is_asked_for_by_name(tmp_path: Path):
    segments = make.segments()
    segments.save(tmp_path / "coco.json", format="coco")
    coco = COCO(str(tmp_path / "coco.json"))
    for annotation, mask in zip(coco.loadAnns(coco.getAnnIds(0)), segments.masks, strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["Katze", "Hündin"]
    assert json.loads((tmp_path / "coco.json").read_text())["annotations"] == json.loads(json.dumps(segments.to_coco()))
    with pytest.raises(FastSamError, match=r"coco\.json: coco files are only written; expected a file \.json or \.npz"):
        Segments.load(tmp_path / "coco.json", format="coco")
    with pytest.raises(
        FastSamError, match="format 'voc', expected one of coco, csv, json, labelmap, labelme, npz, yolo"
    ):
        segments.save(tmp_path / "x.json", format="voc")
    with pytest.raises(FastSamError, match=r"suffix '\.npz', expected \.json"):
        segments.save(tmp_path / "x.npz", format="coco")


def test_every_format_writes_segments_without_rows(tmp_path: Path):
    for form in formats.available():
        empty = Segments.empty((7, 5))
        content = form.encode(empty)
        assert content or form.name == "yolo"  # whose empty file says that the image was looked at
        if form.decode is not None:
            (tmp_path / f"x{form.suffix}").write_bytes(content)
            assert Segments.load(tmp_path / f"x{form.suffix}", format=form.name) == empty
