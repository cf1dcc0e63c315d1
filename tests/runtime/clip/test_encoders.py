"""CLIP folders and encoders, on the tiny CLIP with random weights."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsam_deploy.runtime.clip.encoders import Clip, ImageEncoder, TextEncoder
from fastsam_deploy.runtime.clip.spec import check_encoder, clip_spec_from_json, read_clip_spec
from fastsam_deploy.runtime.engines import open_network
from fastsam_deploy.runtime.errors import DeviceError, MissingDependencyError, ModelError, PromptError
from fastsam_deploy.runtime.network import TensorInfo
from fastsam_deploy.runtime.settings import EngineSettings

pytest.importorskip("tokenizers", reason="needs the extra [clip]")

TINY = Path(__file__).resolve().parents[2] / "data/clip-tiny"
SPEC = json.loads((TINY / "clip.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def clip():
    with Clip.open(TINY) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "clip"))


class Counted:
    """A network that counts its runs and the rows in them, and may say that its batch is fixed."""

    def __init__(self, path: Path, batch: int | None = None) -> None:
        self._network = open_network(path, EngineSettings(threads=1))
        self.rows: list[int] = []
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        (one,) = self._network.inputs
        return (TensorInfo(one.name, one.dtype, (self._batch, *one.shape[1:])),)

    def run(self, feed: dict[str, Any], outputs: list[str]) -> list[Any]:
        (rows,) = (len(values) for values in feed.values())
        assert self._batch in (None, rows)
        self.rows.append(rows)
        return self._network.run(feed, outputs)


def test_a_folder_opens(clip):
    assert clip.spec.embed_dim == 32 and clip.spec.image.size_hw == (64, 64) and clip.spec.image.dense
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64)).astype(np.float32)
    features, texts = clip.images.encode(images), clip.encode_texts(["a dog", "a cat"])
    assert features.shape == (3, 32) and texts.shape == (2, 32) and features.dtype == texts.dtype == np.float32
    for rows in (features, texts):
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert clip.images.encode_patches(images[:1]).shape == (4, 4, 32)


def test_rows_do_not_depend_on_the_batch():
    spec = read_clip_spec(TINY)
    images = np.random.default_rng(0).standard_normal((7, 3, 64, 64)).astype(np.float32)
    found = {}
    for batch in (None, 1, 4):
        network = Counted(TINY / "image.onnx", batch)
        found[batch] = ImageEncoder(network, spec).encode(images)
        assert network.rows == {None: [7], 1: [1] * 7, 4: [4, 4]}[batch]
    np.testing.assert_allclose(found[1], found[None], atol=1e-5)
    np.testing.assert_allclose(found[4], found[None], atol=1e-5)


def test_tokens_have_start_end_and_padding(clip):
    tokens = clip.texts.tokens(["a dog", "the black cat on the grass"])
    assert tokens.shape == (2, 24) and tokens.dtype == np.int64
    for row in tokens:
        end = int(np.flatnonzero(row == SPEC["text"]["end_id"])[0])
        assert row[0] == SPEC["text"]["start_id"] and (row[end + 1 :] == 0).all() and (row[1:end] < 598).all()
    assert (clip.texts.tokens(["A  Dog"]) == tokens[:1]).all()


def test_texts_are_encoded_once_and_the_oldest_are_forgotten(monkeypatch):
    monkeypatch.setattr("fastsam_deploy.runtime.clip.encoders._CACHED_TEXTS", 3)
    spec, network = read_clip_spec(TINY), Counted(TINY / "text.onnx")
    clip = Clip(
        ImageEncoder(open_network(TINY / "image.onnx"), spec), TextEncoder(network, spec, TINY / "tokenizer.json")
    )
    first = clip.encode_texts(["a dog", "a cat", "a dog"])
    assert network.rows == [2] and (first[0] == first[2]).all()
    assert (clip.encode_texts(["a cat", "a dog"]) == first[[1, 0]]).all() and network.rows == [2]
    clip.encode_texts(["a car", "a tree"])
    assert network.rows == [2, 2]
    clip.encode_texts(["a dog"])  # asked for last among the two that were there before
    assert network.rows == [2, 2]
    clip.encode_texts(["a cat"])
    assert network.rows == [2, 2, 1]


def test_a_long_text_is_refused_or_cut(clip):
    long = "a very long description " * 12
    with pytest.raises(PromptError, match=r"has \d\d+ tokens, tiny-random takes 24 .*truncate=True"):
        clip.encode_texts(["a dog", long])
    cut = clip.texts.tokens([long], truncate=True)[0]
    assert cut[-1] == SPEC["text"]["end_id"] and (cut[1:-1] != 0).all()
    clip.encode_texts([long], truncate=True)
    with pytest.raises(PromptError, match="tokens"):  # that it was encoded cut does not make it short
        clip.encode_texts([long])


def test_a_text_that_fits_exactly_is_taken(clip):
    words = next(
        text
        for text in (" ".join(["dog"] * n) for n in range(1, 40))
        if len(clip.texts._tokenizer.encode(text).ids) == 24
    )
    assert clip.texts.tokens([words])[0, -1] == SPEC["text"]["end_id"]
    assert (clip.texts.tokens([words], truncate=True) == clip.texts.tokens([words])).all()


def test_a_text_without_a_token_is_refused(clip):
    with pytest.raises(PromptError, match="has no token"):
        clip.encode_texts(["\x00\x01"])


def test_many_threads(clip):
    words = [f"{color} {thing}" for color in ("red", "blue", "green") for thing in ("dog", "cat", "car", "tree")]
    expected = {word: clip.texts.encode([word])[0] for word in words}
    with ThreadPoolExecutor(4) as pool:
        for word, found in zip(words * 5, pool.map(lambda word: clip.encode_texts([word])[0], words * 5), strict=True):
            np.testing.assert_allclose(found, expected[word], atol=1e-6)


def test_after_close_it_says_so():
    clip = Clip.open(TINY)
    clip.encode_texts(["a dog"])
    clip.close()
    clip.close()
    with pytest.raises(ModelError, match="closed"):
        clip.encode_texts(["a cat"])


def _change(keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(spec: dict[str, Any]) -> None:
        *path, last = keys.split(".")
        for key in path:
            spec = spec[key]
        if value is None:
            del spec[last]
        else:
            spec[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(_change("format", 2), "has format 2, this version reads up to 1; update", id="format"),
        pytest.param(_change("embed_dim", None), "'embed_dim' is missing", id="key"),
        pytest.param(_change("image.mean", [0.5]), "expected 3", id="mean"),
        pytest.param(
            _change("image.resize", "crop"), "resize is 'crop', expected shortest_crop or squash", id="resize"
        ),
        pytest.param(_change("image.interpolation", "nearest"), "interpolation is 'nearest'", id="interpolation"),
        pytest.param(_change("probability", "none"), "expected softmax or sigmoid", id="probability"),
        pytest.param(_change("image.file", "../image.onnx"), "expected the name of a file in the folder", id="path"),
        pytest.param(_change("image", 3), "expected the clip.json of a CLIP folder", id="type"),
        pytest.param(
            _change("embed_dim", 512), r"image.onnx|text.onnx: .*clip.json says features \(b, 512\)", id="dim"
        ),
        pytest.param(_change("image.size", [224, 224]), r"says images \(b, 3, 224, 224\)", id="another size"),
        pytest.param(_change("text.context_length", 77), r"says tokens \(b, 77\)", id="another length"),
    ],
)
def test_another_spec_is_refused(folder, change, message):
    spec = json.loads((folder / "clip.json").read_text(encoding="utf-8"))
    change(spec)
    (folder / "clip.json").write_text(json.dumps(spec), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        Clip.open(folder)


def test_missing_files_are_named(folder, tmp_path):
    (folder / "text.onnx").unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"text\.onnx, tokenizer\.json missing"):
        Clip.open(folder)
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ModelError, match="fastsam-export clip --output"):
            Clip.open(path)


def test_damaged_files_are_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json: cannot be read as a tokenizer"):
        Clip.open(folder)
    (folder / "clip.json").write_text("[")
    with pytest.raises(ModelError, match=r"expected the clip\.json"):
        Clip.open(folder)


def test_the_device_is_the_one_asked_for():
    with pytest.raises(DeviceError, match="cuda"):
        Clip.open(TINY, device="cuda")


def test_encoders_of_two_models_do_not_compare(clip):
    class Other:
        spec = clip_spec_from_json(json.dumps({**SPEC, "embed_dim": 512, "name": "other"}))

    with pytest.raises(ModelError, match="image features of tiny-random have 32 numbers, text features of other 512"):
        Clip(clip.images, Other())


def test_the_two_networks_are_not_mixed_up():
    spec, image, text = read_clip_spec(TINY), open_network(TINY / "image.onnx"), open_network(TINY / "text.onnx")
    with pytest.raises(ModelError, match=r"text\.onnx: has tokens .*says images"):
        ImageEncoder(text, spec)
    with pytest.raises(ModelError, match=r"image\.onnx: has images .*says tokens"):
        TextEncoder(image, spec, TINY / "tokenizer.json")
    two = (TensorInfo("images", "float32", (None, 3, 64, 64)), TensorInfo("more", "float", (None,)))
    with pytest.raises(ModelError, match="expected images"):
        check_encoder(spec, two, image.outputs, "x", text=False)
    with pytest.raises(ModelError, match="patch_features"):
        check_encoder(spec, image.inputs, image.outputs[:1], "x", text=False)


def test_values_that_are_not_finite_are_an_error(clip):
    with pytest.raises(ModelError, match="not finite"):
        clip.images.encode(np.full((1, 3, 64, 64), np.nan, np.float32))


def test_without_patches_dense_is_refused(folder):
    (folder / "clip.json").write_text(json.dumps({**SPEC, "image": {**SPEC["image"], "dense": False}}))
    with Clip.open(folder) as clip, pytest.raises(ModelError, match="use mode='crops'"):
        clip.images.encode_patches(np.zeros((1, 3, 64, 64), np.float32))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "cannot be read", id="opening"
        ),
        pytest.param({"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", 0.0]]}}, "fails on", id="a text"),
    ],
)
def test_a_tokenizer_that_panics_is_a_model_error(folder: Path, change: dict[str, Any], says: str) -> None:
    """A panic of the library's Rust is a BaseException, which passes every `except Exception`."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(ModelError, match=rf"{says}.*make the folder again"), Clip.open(folder) as clip:
        clip.encode_texts(["a dog"])


@pytest.mark.parametrize(
    "settings",
    [
        # Panics for a stride above the length; ends the process where memory for the padding is not to be had.
        {"truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 50}},
        {"padding": {"strategy": {"Fixed": 1000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                     "pad_type_id": 0, "pad_token": "x"}},
    ],
)  # fmt: skip
def test_the_librarys_own_cutting_and_padding_is_off(folder: Path, clip: Clip, settings: dict[str, Any]) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **settings}), encoding="utf-8")
    with Clip.open(folder) as changed:
        texts = ["the black cat on the grass"]
        assert (changed.texts.tokens(texts) == clip.texts.tokens(texts)).all()


def test_a_missing_tokenizer_library_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'fastsam-deploy\[clip\]'"):
        Clip.open(TINY)
