"""Files of segments: those of earlier versions, those that are damaged, and a format that somebody adds."""

from __future__ import annotations

import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from pycocotools.coco import COCO

from fastsam_deploy.runtime import FastSamError, Masks, Segments, formats
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


def _changed(name: str, value: object) -> bytes:
    """The JSON file with one value of its second segment changed."""
    document = json.loads((OLD / "old.json").read_text(encoding="utf-8"))
    document["segments"][1][name] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("bbox", ["1", "2", "3", "4"]), ("bbox", [1, 2, 3]), ("bbox", [1, 2, 3, float("nan")]), ("bbox", "1234")),
        *(("score", True), ("score", float("nan")), ("score", "0.5"), ("score", 7.5), ("score", None)),
        *(("class", 1.9), ("class", True), ("class", "1"), ("prompt", 0.5), ("prompt", -7), ("fit", "good")),
        *(
            ("segmentation", "231"),
            ("segmentation", {"size": "23", "counts": "231"}),
            ("segmentation", {"size": [2, 3]}),
        ),
        ("segmentation", {"size": [20.0, 30.0], "counts": "\\Q"}),
        ("segmentation", {"size": [-20, -30], "counts": "hb0"}),
    ],
    ids=str,
)
def test_values_of_another_type_in_json_are_refused(tmp_path: Path, name: str, value: object):
    (tmp_path / "x.json").write_bytes(_changed(name, value))
    with pytest.raises(FastSamError, match=r"^[^\n]*x\.json: [^\n]{9,300}$"):
        Segments.load(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("boxes_xyxy", lambda boxes: boxes.astype(str)),
        ("boxes_xyxy", lambda boxes: boxes * np.inf),
        ("boxes_xyxy", lambda boxes: boxes.astype(np.complex64)),
        ("scores", lambda scores: scores > 0),
        ("scores", lambda scores: scores * np.nan),
        ("scores", lambda scores: scores + 5),
        ("classes", lambda classes: classes + 0.9),
        ("prompts", lambda prompts: prompts - 9),
        ("fits", lambda fits: fits + np.inf),
        ("crop_hw", lambda sizes: sizes.astype(np.float64)),
        ("corners_xy", lambda corners: corners.astype("datetime64[s]")),
        ("image_hw", lambda size: -size),
        ("class_names", lambda names: np.arange(len(names))),
    ],
)
def test_values_of_another_type_in_npz_are_refused(
    tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]
):
    with np.load(OLD / "old.npz") as arrays:
        np.savez(tmp_path / "x.npz", **{**arrays, name: change(arrays[name])})
    with pytest.raises(FastSamError, match=r"^[^\n]*x\.npz: [^\n]*expected[^\n]*$"):
        Segments.load(tmp_path / "x.npz")


def _npy(shape: tuple[int, ...], descr: str = "<f4", data: bytes = b"") -> bytes:
    """An NPY file that claims any shape."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def _with_member(tmp_path: Path, name: str, content: bytes) -> Path:
    """The NPZ file with one array replaced by any bytes."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(OLD / "old.npz") as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, content if member == f"{name}.npy" else old.read(member))
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("scores", _npy((2**40,))),
        ("crop_hw", _npy((2**40, 2), "<i8")),
        ("crop_hw", _npy((10**6, 2), "<i8", bytes(16 * 10**6))),
        ("crop_hw", _npy((4, 2), "<i8", b"\xff\xff\xff\x7f" * 16)),
        ("class_names", _npy((1,), "<U100000000")),
        ("class_names", _npy((70_000,), "<U10", bytes(2_800_000))),
        ("crop_bits", _npy((2**33,), "|u1", bytes(10**7))),
        ("scores", _npy((4,), "|O", b"cos\nsystem\n(S'true'\ntR.")),
        ("scores", b"\x93NUMPY\x03\x00\xff\xff\xff\xff" + b" " * 10**7),
        ("scores", b"no array"),
    ],
)
def test_archives_that_ask_for_memory_do_not_get_it(tmp_path: Path, name: str, content: bytes):
    path = _with_member(tmp_path, name, content)
    tracemalloc.start()
    with pytest.raises(FastSamError, match=r"^[^\n]*x\.npz: [^\n]*expected[^\n]*$"):
        Segments.load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64e6


def test_an_archive_that_is_encrypted_renamed_or_something_else(tmp_path: Path):
    content = bytearray((OLD / "old.npz").read_bytes())
    encrypted = bytearray(content)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := content.find(signature, place + 1)) >= 0:
            encrypted[place + at] |= 1
    renamed = content.replace(b"scores.npy", b"points.npy")
    for wrong in (encrypted, renamed, b"", b"PK\x05\x06" + bytes(18), (OLD / "old.json").read_bytes()):
        (tmp_path / "x.npz").write_bytes(wrong)
        with pytest.raises(FastSamError, match=r"^[^\n]*x\.npz: [^\n]*expected a file that Segments.save wrote$"):
            Segments.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([65_535, 65_535], "0oooooo3"),
        ([2**20, 2**20], [0, 2**40]),
        ([20, 30], "o" * 1_000_000),
        ([20, 30], "Po" * 500_000),
        ([20, 30], [0, 10**30]),
        ([2**40, 2**40], [0, 2**80]),
    ],
    ids=["65535 squared", "a terapixel", "one endless run", "many runs", "a run of 10^30", "sides of 2^40"],
)
def test_a_short_rle_takes_neither_time_nor_memory(tmp_path: Path, size: list[int], counts: object):
    """300 bytes took 4 GB, and a text of a megabyte minutes."""
    rows = [{"bbox": [0, 0, 1, 1], "score": 0.5, "prompt": None, "fit": None}] * 3
    rows = [{**row, "segmentation": {"size": size, "counts": counts}} for row in rows]
    image = {"height": size[0], "width": size[1]}
    (tmp_path / "x.json").write_text(json.dumps({"image": image, "segments": rows}), encoding="utf-8")
    start = perf_counter()
    tracemalloc.start()
    with pytest.raises(FastSamError, match=r"^[^\n]{9,500}$"):
        Segments.load(tmp_path / "x.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6 and perf_counter() - start < 5


def test_many_masks_of_a_few_bytes_each_are_bounded(monkeypatch: pytest.MonkeyPatch):
    """Each is within the limit of one, and together they are not."""
    side = 16_000
    rles = [{"size": [side, side], "counts": [0, side * side]}] * 1000
    monkeypatch.setattr("fastsam_deploy.runtime.limits.MAX_MASK_PIXELS", 10**9)
    with pytest.raises(FastSamError, match=r"masks of [\d,]+ pixels or more, expected at most 1,000,000,000"):
        Masks.from_rle(rles, (side, side))


def test_segments_with_nan_are_not_written_as_json(tmp_path: Path):
    """It would be a file that no reader of JSON takes."""
    segments = make.segments()
    wrong = replace(segments, scores=np.full(len(segments), np.nan, np.float32))
    for name in ("json", "coco", "labelme"):
        with pytest.raises(FastSamError, match="expected finite numbers"):
            wrong.save(tmp_path / "x.json", format=name)
    assert not list(tmp_path.iterdir())


def test_what_is_no_regular_file_is_not_read(tmp_path: Path):
    os.mkfifo(tmp_path / "x.npz")
    (tmp_path / "y.npz").mkdir()
    with (tmp_path / "z.json").open("wb") as sparse:
        sparse.truncate(20 << 30)
    for name, reason in (("x.npz", "no regular file"), ("y.npz", "[Dd]irectory"), ("z.json", "the limit is")):
        with pytest.raises(FastSamError, match=f"{name}: .*{reason}"):
            Segments.load(tmp_path / name)
