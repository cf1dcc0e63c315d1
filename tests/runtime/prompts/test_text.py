"""Text prompts against a naive loop over full-size images on the same encoder, and what users of the peers run into.

The weights are random: similarities mean nothing, but they are known, from a loop that shares no code with ours.
"""

from __future__ import annotations

import json
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastsam_deploy.runtime import (
    Boxes,
    Clip,
    FastSAM,
    ImageError,
    Masks,
    ModelError,
    ParameterError,
    Points,
    PromptError,
    Segments,
    Text,
    load_image,
    with_image,
)
from fastsam_deploy.runtime.clip.features import MaskFeatures
from fastsam_deploy.runtime.prompts.text import best_columns

pytest.importorskip("tokenizers", reason="needs the extra [clip]")

TINY = Path(__file__).resolve().parents[2] / "data/clip-tiny"
TEXTS = ("a dog", "the black cat", "a cup of coffee on a wooden table")


@pytest.fixture(scope="module")
def clip():
    with Clip.open(TINY, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def scene(clip, coffee) -> Segments:
    """A photograph and 40 masks of it: blots of all sizes, every fifth too small to be compared."""
    image, rng = load_image(coffee)[:300, :400].copy(), np.random.default_rng(0)
    dense = np.zeros((40, 300, 400), np.bool_)
    for i, mask in enumerate(dense):
        h, w = (5, 8) if i % 5 == 0 else rng.integers(15, 200, 2)
        y, x = rng.integers(0, 300 - h), rng.integers(0, 400 - w)
        blot = cv2.resize(rng.random((4, 4)).astype(np.float32), (int(w), int(h)), interpolation=cv2.INTER_CUBIC)
        mask[y : y + h, x : x + w] = blot > 0.4
    masks = Masks.from_dense(dense)
    scores = np.linspace(0.9, 0.1, 40).astype(np.float32)
    segments = Segments.unprompted(masks.boxes_xyxy(), scores, np.zeros(40, np.int64), masks)
    return with_image(segments, image, clip)


def fresh(segments: Segments) -> Segments:
    """The same with nothing remembered."""
    return with_image(segments, segments.features.image, segments.features.clip)


def naive(segments: Segments, texts: tuple[str, ...], color: tuple[int, ...], resize: str) -> NDArray[np.float64]:
    """Cosines, one mask after the other: full-size mask, full-size painted image, Pillow, a run of the encoder each."""
    import onnxruntime
    from tokenizers import Tokenizer

    spec = json.loads((TINY / "clip.json").read_text())
    sessions = {
        name: onnxruntime.InferenceSession(TINY / f"{name}.onnx", providers=["CPUExecutionProvider"])
        for name in ("image", "text")
    }
    tokenizer = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    cosines = np.full((len(texts), len(segments)), np.nan)
    for i, mask in enumerate(segments.masks.dense()):
        if mask.sum() <= 100:
            continue
        painted = segments.features.image.copy()
        painted[~mask] = color
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        crop = Image.fromarray(painted).crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        w, h = crop.size
        if resize == "reference":
            wide, tall = (64, int(64 * h / w)) if w <= h else (int(64 * w / h), 64)
            left, top = round((wide - 64) / 2), round((tall - 64) / 2)
            square = crop.resize((wide, tall), Image.Resampling.BICUBIC).crop((left, top, left + 64, top + 64))
        else:
            square = Image.new("RGB", (64, 64), color)
            wide, tall = max(round(w * 64 / max(w, h)), 1), max(round(h * 64 / max(w, h)), 1)
            corner = (round((64 - wide) / 2 - 0.1), round((64 - tall) / 2 - 0.1))
            square.paste(crop.resize((wide, tall), Image.Resampling.BICUBIC), corner)
        values = (np.asarray(square, np.float32) / 255 - spec["image"]["mean"]) / spec["image"]["std"]
        (feature,) = sessions["image"].run(["features"], {"images": values.transpose(2, 0, 1)[None].astype(np.float32)})
        for t, text in enumerate(texts):
            ids = tokenizer.encode(text).ids
            tokens = np.array([ids + [0] * (24 - len(ids))], np.int64)
            (words,) = sessions["text"].run(["features"], {"tokens": tokens})
            cosines[t, i] = float(feature[0] @ words[0])
    return cosines


def test_an_image_that_is_overwritten_later_gives_the_same_answers(scene: Segments) -> None:
    """Cameras use one buffer for all frames, and a text may be asked long after."""
    buffer = scene.features.image.copy()
    held = with_image(scene, buffer, scene.features.clip)
    expected = buffer.copy()
    buffer[:] = 0
    np.testing.assert_array_equal(held.features.image, expected)


@pytest.mark.parametrize(
    ("background", "color"), [("black", (0, 0, 0)), ("white", (255,) * 3), ("mean", (123, 117, 104))]
)
@pytest.mark.parametrize("resize", ["letterbox", "reference"])
def test_the_naive_loop_gives_the_same(scene, background, color, resize):
    """Among the masks are skipped ones: the wrong index after filtering is ul#23764."""
    expected = naive(scene, TEXTS, color, resize)
    prompt = Text(TEXTS, background=background, resize=resize, duplicate_iou=None)
    found = prompt.similarities(scene)
    assert found.shape == (3, 40) and (np.isnan(found) == np.isnan(expected)).all() and np.isnan(found[0, ::5]).all()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    answer = scene.select(prompt)
    best = np.nanargmax(expected, axis=1)
    assert answer.prompts.tolist() == [0, 1, 2] and answer.scores.tolist() == scene.scores[best].tolist()
    np.testing.assert_array_equal(answer.masks.dense(), scene.masks.dense()[best])
    np.testing.assert_allclose(answer.fits, expected[range(3), best], atol=1e-4)


def test_texts_get_their_probability(scene, clip):
    prompt = Text(TEXTS)
    shares, cosines = prompt.probabilities(scene), prompt.similarities(scene).astype(np.float64)
    powers = np.exp(100 * (cosines - np.nanmax(cosines, 1, keepdims=True)))
    np.testing.assert_allclose(shares, powers / np.nansum(powers, 1, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(np.nansum(shares, 1), 1, atol=1e-5)
    answer = scene.select(prompt)
    np.testing.assert_array_equal(answer.probabilities, np.nanmax(shares, 1))
    sigmoid = replace(clip.spec, probability="sigmoid", logit_bias=-5.0)
    other = Clip(clip.images, clip.texts)
    other.images = type(clip.images)(clip.images._network, sigmoid)
    alone = prompt.probabilities(with_image(scene, scene.features.image, other))
    np.testing.assert_allclose(alone, 1 / (1 + np.exp(5 - 100 * cosines)), atol=1e-4)


def test_neighbours_in_the_box_change_nothing(scene, clip):
    """Neighbours inside a box crop win: ul#23765. Whatever lies outside a mask, its similarity stays."""
    mask = scene.masks[[7]]
    other = scene.features.image.copy()
    other[~mask.full(0)] = np.random.default_rng(1).integers(0, 256, 3)
    assert (other != scene.features.image).any()
    for background in ("mean", "black", "white"):
        prompt = Text("a dog", background=background)
        before, after = (
            prompt.similarities(with_image(scene[[7]], image, clip)) for image in (scene.features.image, other)
        )
        np.testing.assert_array_equal(before, after)


def test_red_and_blue_are_not_swapped(scene, clip):
    """CASIA's crops are BGR."""
    image = scene.features.image
    prompt = Text(TEXTS)
    expected = prompt.similarities(scene)
    np.testing.assert_array_equal(
        prompt.similarities(with_image(scene, image[..., ::-1].copy(), clip, color="BGR")), expected
    )
    swapped = prompt.similarities(with_image(scene, image[..., ::-1].copy(), clip))
    assert np.nanmax(np.abs(swapped - expected)) > 0.01


@pytest.mark.parametrize(
    ("cosines", "scores", "areas", "best"),
    [
        pytest.param([0.1, 0.3, 0.2], [0.9, 0.1, 0.5], [9, 1, 5], 1, id="cosine"),
        pytest.param([0.3, 0.3, 0.2], [0.1, 0.2, 0.9], [9, 1, 9], 1, id="then score"),
        pytest.param([0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [1, 5, 4], 1, id="then area"),
        pytest.param([0.3, 0.3, 0.3], [0.2, 0.2, 0.2], [5, 5, 5], 0, id="then the first"),
    ],
)
def test_ties(cosines, scores, areas, best):
    found = best_columns(np.array([cosines, cosines]), np.array(scores), np.array(areas))
    assert found.tolist() == [best, best]


def test_the_same_text_twice_is_answered_twice(scene):
    answer = scene.select(Text(["a dog", "a cat", "a dog"]))
    assert answer.prompts.tolist() == [0, 1, 2] and answer.fits[0] == answer.fits[2]


def test_with_other_prompts_the_numbers_go_on(scene):
    answer = scene.select([Boxes([[0, 0, 200, 200], [100, 100, 300, 300]]), Text(TEXTS[:2]), Points([[200, 150]])])
    assert set(answer.prompts.tolist()) == {0, 1, 2, 3, 4}
    of_texts = (answer.prompts == 2) | (answer.prompts == 3)
    assert (np.isnan(answer.probabilities) == ~of_texts).all()
    np.testing.assert_array_equal(answer[of_texts].fits, scene.select(Text(TEXTS[:2])).fits)


@pytest.mark.parametrize("mode", ["crops", "dense"])
def test_nothing_to_compare_is_an_empty_answer(scene, clip, mode):
    for none in (scene[[]], scene[[0, 5, 10]]):
        answer = none.select(Text(TEXTS, mode))
        assert len(answer) == 0 and answer.image_hw == (300, 400)
        assert Text(TEXTS, mode).probabilities(none).shape == (3, len(none))
    assert len(scene[[0, 5]].select(Text("a dog", mode, min_area_px=1))) == 1
    empty = Masks.from_crops((300, 400), (np.zeros((9, 9), np.bool_),), np.zeros((1, 2), np.int64))
    pixelless = Segments.unprompted(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), empty)
    assert len(with_image(pixelless, scene.features.image, clip).select(Text("a dog", mode, min_area_px=0))) == 0


def test_max_masks_compares_the_largest(scene):
    found = Text("a dog", max_masks=6).similarities(scene)
    compared = np.flatnonzero(~np.isnan(found[0]))
    assert compared.tolist() == sorted(np.argsort(-scene.areas, kind="stable")[:6].tolist())
    np.testing.assert_allclose(found[0, compared], Text("a dog").similarities(scene)[0, compared], atol=1e-6)


def test_near_duplicates_share_features_and_can_be_kept_apart(scene, clip, monkeypatch):
    dense = scene.masks.dense()[[7, 8, 7]]
    rows, columns = np.nonzero(dense[2])
    dense[2, rows[0], columns[0]] = False
    masks = Masks.from_dense(dense)
    three = with_image(replace(scene[[7, 8, 9]], masks=masks), scene.features.image, clip)
    counted = _count(monkeypatch, clip)
    shared = Text(TEXTS).similarities(three)
    assert counted == [2] and (shared[:, 0] == shared[:, 2]).all()
    # A mask that was stood in for is encoded where it stands alone: an answer does not depend on earlier questions.
    alone = Text(TEXTS).similarities(three[[2]])
    assert counted == [2, 1] and np.abs(alone - shared[:, [2]]).max() > 1e-4
    assert (Text(TEXTS).similarities(three) == shared).all()
    apart = Text(TEXTS, duplicate_iou=None).similarities(three)
    assert counted == [2, 1]
    np.testing.assert_allclose(apart[:, 2], alone[:, 0], atol=1e-6)
    np.testing.assert_allclose(apart, shared, atol=0.05)


def _count(monkeypatch: pytest.MonkeyPatch, clip: Clip) -> list[int]:
    """Rows of every run of the image encoder from now on."""
    rows: list[int] = []
    for name in ("encode", "encode_patches"):
        real = getattr(clip.images, name)

        def counted(images: Any, real: Any = real) -> Any:
            rows.append(len(images))
            return real(images)

        monkeypatch.setattr(clip.images, name, counted)
    return rows


def test_further_texts_cost_no_run_of_the_image_encoder(scene, clip, monkeypatch):
    everything, counted = fresh(scene), _count(monkeypatch, clip)
    everything.select(Text("a dog", duplicate_iou=None))
    assert counted == [32]
    everything.select(Text(["a cat", "a tree"], duplicate_iou=None))
    part = everything[[3, 30, 7, 12]]
    part.select(Text("a car"))
    everything[::-1].select([Text("the sky"), Text("the sea")])
    held = everything.select(Boxes([0, 0, 400, 300]))
    held.select(Text("a boat"))
    assert counted == [32], "sub-sets and answers know the features of their rows"
    # Other pixels, another background: these are other crops.
    merged = everything.select(Points([[200, 150]]))
    merged.select(Text("a dog"))
    assert counted == [32, 1]
    everything.select(Text("a dog", background="white", duplicate_iou=None))
    assert counted == [32, 1, 32]
    everything.select(Text("a dog", "dense"))
    everything.select(Text("a cat", "dense"))
    assert counted == [32, 1, 32, 1]


def test_more_masks_than_a_batch(scene, clip, monkeypatch):
    monkeypatch.setattr("fastsam_deploy.runtime.clip.encoders._BATCH", 5)
    counted = _count(monkeypatch, clip)
    found = Text(TEXTS, duplicate_iou=None).similarities(fresh(scene))
    assert counted == [5] * 6 + [2]
    np.testing.assert_allclose(found, Text(TEXTS, duplicate_iou=None).similarities(scene), atol=1e-5)


def test_threads_that_ask_the_same_wait_for_one_answer(scene, clip, monkeypatch):
    everything, counted = fresh(scene), _count(monkeypatch, clip)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: everything.select(Text(TEXTS, duplicate_iou=None)), range(8)))
    assert counted == [32] and all((answer.fits == answers[0].fits).all() for answer in answers)


@pytest.mark.parametrize("hw", [(300, 400), (300, 100), (40, 30)])
def test_dense_is_the_mean_of_the_patches_under_a_mask(scene, clip, hw):
    """Against a full-size loop: the feature of its patch at each point of a fine grid, averaged where the mask is."""
    image = scene.features.image[: hw[0], : hw[1]]
    dense = np.zeros((2, *hw), np.bool_)
    dense[0, hw[0] // 4 : hw[0] // 2, 3 : hw[1] // 2] = True
    dense[1] = np.random.default_rng(0).random(hw) < 0.3
    masks = Masks.from_dense(dense)
    two = Segments.unprompted(masks.boxes_xyxy(), np.ones(2, np.float32), np.zeros(2, np.int64), masks)
    found = Text(TEXTS, "dense").similarities(with_image(two, image, clip))

    ratio = min(64 / hw[0], 64 / hw[1])
    tall, wide = round(hw[0] * ratio), round(hw[1] * ratio)
    top, left = round((64 - tall) / 2 - 0.1), round((64 - wide) / 2 - 0.1)
    square = Image.new("RGB", (64, 64), (123, 117, 104))
    square.paste(Image.fromarray(image).resize((wide, tall), Image.Resampling.BICUBIC, reducing_gap=2.0), (left, top))
    spec = clip.spec.image
    values = ((np.asarray(square) / 255 - spec.mean) / spec.std).transpose(2, 0, 1)[None].astype(np.float32)
    patches = clip.images.encode_patches(values)
    fine = 8  # points along a pixel
    y, x = (
        ((np.arange(side * fine) + 0.5) / fine * ratio + start) // 16 for side, start in ((hw[0], top), (hw[1], left))
    )
    for mask, cosines in zip(dense, found.T, strict=True):
        points = np.repeat(np.repeat(mask, fine, 0), fine, 1)
        pooled = sum(
            (points & (y == i)[:, None] & (x == j)[None]).sum() * patches[i, j] for i in range(4) for j in range(4)
        )
        np.testing.assert_allclose(cosines, clip.encode_texts(TEXTS) @ (pooled / np.linalg.norm(pooled)), atol=0.02)


@pytest.mark.parametrize(
    ("texts", "settings", "error", "message"),
    [
        pytest.param("", {}, PromptError, "text 0 is ''", id="empty"),
        pytest.param(["a dog", " \n"], {}, PromptError, "text 1 is", id="blank"),
        pytest.param([], {}, PromptError, "the list of texts is empty", id="none"),
        pytest.param([3], {}, PromptError, "text 0 is 3", id="a number"),
        pytest.param("x", {"mode": "best"}, ParameterError, "expected one of crops, dense", id="mode"),
        pytest.param("x", {"background": "red"}, ParameterError, "mean, black, white, blur", id="background"),
        pytest.param("x", {"resize": "squash"}, ParameterError, "letterbox, reference", id="resize"),
        pytest.param("x", {"max_masks": 0}, ParameterError, "expected 1 or more", id="max_masks"),
        pytest.param("x", {"duplicate_iou": 0}, ParameterError, "duplicate_iou is 0", id="duplicate_iou"),
        pytest.param("x", {"duplicate_iou": True}, ParameterError, "is True, expected a number", id="a bool"),
        pytest.param("x", {"max_masks": 2.5}, ParameterError, "is 2.5, expected a whole number", id="half a mask"),
        pytest.param("x", {"min_area_px": None}, ParameterError, "is None, expected a whole number", id="min_area_px"),
        pytest.param("x", {"truncate": 1}, ParameterError, "is 1, expected true or false", id="truncate"),
    ],
)
def test_what_cannot_be_asked(texts, settings, error, message):
    with pytest.raises(error, match=message):
        Text(texts, **settings)


def test_settings_are_plain_values_that_json_has():
    prompt = Text(["a dog"], max_masks=np.int64(3), duplicate_iou=np.float32(0.5), truncate=np.bool_(True))
    assert Text.from_json(json.loads(json.dumps(prompt.to_json()))) == prompt
    assert Text.from_json({"text": "a dog", "mode": None, "min_area_px": None, "max_masks": None}) == Text("a dog")
    assert Text.from_json({"text": "a dog", "duplicate_iou": None}).duplicate_iou is None, "null has a meaning here"


def test_without_an_encoder_it_says_what_to_do(scene, tmp_path):
    scene.save(tmp_path / "x.npz")
    loaded = Segments.load(tmp_path / "x.npz")
    for segments in (loaded, Segments.empty((4, 4)), pickle.loads(pickle.dumps(scene))):
        assert segments.features is None
        with pytest.raises(PromptError, match=r"FastSAM\(…, clip=DIR\).*with_image"):
            segments.select(Text("a dog"))
    again = with_image(loaded, scene.features.image, scene.features.clip).select(Text(TEXTS))
    np.testing.assert_allclose(again.fits, scene.select(Text(TEXTS)).fits, atol=1e-5)
    with pytest.raises(ImageError, match=r"\(299, 400\).*give the image that was segmented"):
        with_image(loaded, scene.features.image[1:], scene.features.clip)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_answers_are_saved_with_their_probability(scene, tmp_path, suffix):
    answer = scene.select([Text(TEXTS), Boxes([0, 0, 100, 100])])
    answer.save(tmp_path / f"x{suffix}")
    loaded = Segments.load(tmp_path / f"x{suffix}")
    np.testing.assert_allclose(loaded.probabilities, answer.probabilities, atol=1e-6)
    np.testing.assert_allclose(loaded.fits, answer.fits, atol=1e-6)
    row = answer.to_json()["segments"][0]
    assert row["probability"] == pytest.approx(answer.probabilities[0], abs=1e-6)
    assert answer.to_coco()[-1]["probability"] is None
    old = {**answer.to_json(), "segments": [{k: v for k, v in row.items() if k != "probability"}]}
    assert np.isnan(Segments.from_json(old).probabilities).all(), "files of earlier versions"


def test_fastsam_answers_texts(coffee, cat):
    with FastSAM(imgsz=320, conf=0.1, clip=TINY) as model:
        everything = model.segment(coffee)
        answer = model.segment(coffee, Text(TEXTS))
        expected = everything.select(Text(TEXTS))
        assert answer.prompts.tolist() == [0, 1, 2] and (answer.fits == expected.fits).all()
        bgr = cv2.cvtColor(load_image(coffee), cv2.COLOR_RGB2BGR)
        assert (model.segment(bgr, Text(TEXTS), color="BGR").fits == expected.fits).all()
        both = model.segment_batch([cat, coffee], Text(TEXTS))
        assert both[0].image_hw == (300, 451) and both[0].fits.tolist() != expected.fits.tolist()
        np.testing.assert_allclose(both[1].fits, expected.fits, atol=1e-4)
    with pytest.raises(ModelError, match="closed"):
        everything.select(Text("another text"))


def test_a_clip_can_be_shared(clip, coffee):
    with FastSAM(imgsz=320, conf=0.1, clip=clip) as one, FastSAM(imgsz=320, conf=0.2, clip=clip) as other:
        assert one.clip is other.clip is clip
        first = one.segment(coffee)
    assert len(first.select(Text("a dog"))) == 1, "the clip stays open"
    assert isinstance(first.features, MaskFeatures) and first.features.image.shape == (400, 600, 3)


def test_without_clip_nothing_is_held(coffee):
    with FastSAM(imgsz=320) as model:
        assert model.segment(coffee).features is None
        with pytest.raises(PromptError, match="clip=DIR"):
            model.segment(coffee, Text("a dog"))


def test_a_clip_that_cannot_be_opened_leaves_nothing_open(tmp_path):
    with pytest.raises(ModelError, match="fastsam-export clip"):
        FastSAM(clip=tmp_path)
    with pytest.raises(ParameterError, match="imgsz"):
        FastSAM(imgsz=333, clip=TINY)


def test_100_masks_of_24_megapixels_stay_small(clip):
    """Full-size masked images would be 7.2 GB."""
    image = np.random.default_rng(0).integers(0, 256, (4000, 6000, 3), np.uint8)
    corners = np.random.default_rng(1).integers(0, (5200, 3200), (100, 2))
    crops = (np.ones((4000, 6000), np.bool_), *(np.ones((800, 800), np.bool_) for _ in range(99)))
    masks = Masks.from_crops((4000, 6000), crops, corners * (np.arange(100) > 0)[:, None])
    for background in ("mean", "blur"):
        features = MaskFeatures(image, clip)
        tracemalloc.start()
        try:
            found = features.of_crops(masks, background, duplicate_iou=0.95)
            features.of_patches(masks)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert found.shape == (100, 32)
        assert peak < 30e6
