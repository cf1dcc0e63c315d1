"""CLIP models → folder: equal to the model by other means than validation's, and no folder where something is wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("open_clip", reason="needs the extra [clip-export]: open_clip is not installed")
pytest.importorskip("transformers", reason="needs the extra [clip-export]: transformers is not installed")

import onnx
import onnxruntime
import open_clip
import torch
from onnx import TensorProto
from safetensors.torch import save_file
from tokenizers import Tokenizer

from fastsam_deploy.export.clip import to_clip as clip_module
from fastsam_deploy.export.clip.fp16 import halved as halved_graph
from fastsam_deploy.export.clip.models import load_clip
from fastsam_deploy.export.clip.to_clip import ClipProof, export_clip, write_clip
from fastsam_deploy.export.clip.tokenizer import padded
from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.runtime.clip.spec import read_clip_spec

pytestmark = pytest.mark.export

ROOT = Path(__file__).resolve().parents[3]
FILES = ["clip.json", "image.onnx", "text.onnx", "tokenizer.json"]
TEXTS = ["a dog", "A DOG", "the red car, left", "", "two cups of coffee " * 10]


def lively(model: Any) -> Any:
    """Random weights with which features depend on the input."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.normal_(std=1.3 * weight[0].numel() ** -0.5)
            elif weight.ndim == 1:
                weight.normal_(mean=1.0 if name.endswith("weight") else 0.0, std=0.1)
    return model.eval().requires_grad_(False)


def run_cli(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    start = "from fastsam_deploy.export.cli.main import main; main()"
    # A hub that is not there: the name ends in .invalid, which no server has.
    settings = {**os.environ, "HF_ENDPOINT": "http://hub.invalid", "HF_HOME": str(cwd / "hub")}
    command = [sys.executable, "-c", start, "clip", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, check=False, timeout=300)


def answers(folder: Path, images: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, ...]:
    """Features of images, patch features if there are, features of texts."""
    both = [onnxruntime.InferenceSession(folder / f, providers=["CPUExecutionProvider"]) for f in FILES[1:3]]
    return *both[0].run(None, {"images": images}), *both[1].run(None, {"tokens": tokens})


def random_images(count: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, size, size)).astype(np.float32)


def one_minus_cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float((1 - (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)).max())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small OpenAI-like model as open_clip saves it on its hub: a folder with its configuration and weights."""
    folder = tmp_path_factory.mktemp("models") / "small"
    folder.mkdir()
    layers = {"layers": 2, "width": 64}
    config = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "patch_size": 16, "head_width": 32, **layers},
        "text_cfg": {"context_length": 20, "heads": 2, **layers},
    }
    model = lively(open_clip.CLIP(**config))
    model.logit_scale.fill_(float(np.log(50)))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return folder


@pytest.fixture(scope="module")
def model(small: Path) -> Any:
    return open_clip.create_model(f"local-dir:{small}").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def exported(small: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipProof:
    return export_clip(str(small), tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture(scope="module")
def halved(small: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipProof:
    return export_clip(str(small), tmp_path_factory.mktemp("clip") / "half", half=True)


def test_the_spec_says_what_the_folder_holds(exported: ClipProof) -> None:
    spec = json.loads((exported.path / "clip.json").read_text(encoding="utf-8"))
    assert spec == exported.spec
    sums = spec.pop("sha256")
    assert sums == {name: hashlib.sha256((exported.path / name).read_bytes()).hexdigest() for name in FILES[1:]}
    tools = spec.pop("tools")
    assert (tools["torch"], tools["open_clip"]) == (torch.__version__.split("+")[0], open_clip.__version__)
    assert spec["image"].pop("mean") == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert spec["image"].pop("std") == pytest.approx(open_clip.OPENAI_DATASET_STD)
    assert spec.pop("logit_scale") == pytest.approx(50)
    image = {"file": "image.onnx", "size": [64, 64], "interpolation": "bicubic", "resize": "shortest_crop"}
    text = {"file": "text.onnx", "context_length": 20, "pad_id": 0, "start_id": 49406, "end_id": 49407}
    assert spec == {
        "format": 1,
        "name": "small",
        "library": "open_clip",
        "embed_dim": 32,
        "precision": "fp32",
        "image": {**image, "patch_size": 16, "dense": True},
        "text": {**text, "lowercase": True},
        "logit_bias": None,
        "probability": "softmax",
    }
    assert sorted(path.name for path in exported.path.iterdir()) == FILES
    assert read_clip_spec(exported.path).embed_dim == 32


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_every_batch_gives_the_models_features(exported: ClipProof, model: Any, batch: int) -> None:
    images, tokens = random_images(batch), open_clip.tokenize(TEXTS[:batch], 20).numpy()
    image_features, _, text_features = answers(exported.path, images, tokens)
    expected = model.encode_image(torch.from_numpy(images)), model.encode_text(torch.from_numpy(tokens))
    for found, reference in zip((image_features, text_features), expected, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, torch.nn.functional.normalize(reference, dim=-1).numpy(), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    if batch > 1:  # the comparison means something: inputs have features of their own
        assert np.linalg.norm(image_features[0] - image_features[1]) > 0.01


def test_the_graphs_have_the_tensors_of_the_contract(exported: ClipProof) -> None:
    def tensors(name: str) -> dict[str, tuple[int, list[Any]]]:
        graph = onnx.load(exported.path / name).graph
        return {
            tensor.name: (
                tensor.type.tensor_type.elem_type,
                [d.dim_param or d.dim_value for d in tensor.type.tensor_type.shape.dim],
            )
            for tensor in (*graph.input, *graph.output)
        }

    assert tensors("image.onnx") == {
        "images": (TensorProto.FLOAT, ["batch", 3, 64, 64]),
        "features": (TensorProto.FLOAT, ["batch", 32]),
        "patch_features": (TensorProto.FLOAT, ["batch", 4, 4, 32]),
    }
    assert tensors("text.onnx") == {
        "tokens": (TensorProto.INT64, ["batch", 20]),
        "features": (TensorProto.FLOAT, ["batch", 32]),
    }


def test_the_files_tell_nothing_about_the_machine_that_made_them(exported: ClipProof) -> None:
    for name in FILES:
        raw = (exported.path / name).read_bytes()
        for word in (b"site-packages", b"stack_trace", str(Path.home()).encode() + b"/", b"/tmp/", b"clip_towers.py"):
            assert word not in raw, (name, word)


def test_patch_features_are_the_value_path_of_the_last_block(exported: ClipProof, model: Any) -> None:
    """By hand, with the weights of the model as they were loaded."""
    images = random_images(3)
    last, seen = model.visual.transformer.resblocks[-1], []
    with last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        model.encode_image(torch.from_numpy(images))
    x = last.ln_1(seen[0])[:, 1:]
    values = x @ last.attn.in_proj_weight[128:].T + last.attn.in_proj_bias[128:]
    values = values @ last.attn.out_proj.weight.T + last.attn.out_proj.bias
    expected = (model.visual.ln_post(values) @ model.visual.proj).reshape(3, 4, 4, 32).numpy()
    found = answers(exported.path, images, np.zeros((1, 20), np.int64))[1]
    assert one_minus_cosine(found, expected) < 1e-6
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.ptp(np.linalg.norm(found, axis=-1)) > 0.01  # not normalised: pooling comes first


def test_a_patch_stands_where_its_pixels_are(exported: ClipProof) -> None:
    """In the first two layers patches mix, but most of a patch is still its own."""
    images = random_images(1)
    changed = images.copy()
    changed[0, :, 16:32, 48:64] += 3  # row 1, column 3
    before, after = (answers(exported.path, x, np.zeros((1, 20), np.int64))[1][0] for x in (images, changed))
    difference = np.linalg.norm(after - before, axis=-1)
    assert np.unravel_index(difference.argmax(), difference.shape) == (1, 3)


def test_tokens_are_those_of_the_model(exported: ClipProof) -> None:
    file = Tokenizer.from_file(str(exported.path / "tokenizer.json"))
    assert file.padding is None
    assert file.truncation is None
    np.testing.assert_array_equal(padded(file, TEXTS, 20, 0, 49407), open_clip.tokenize(TEXTS, 20).numpy())
    assert len(file.encode(TEXTS[-1]).ids) > 20


def test_fp16_is_close_and_really_fp16(halved: ClipProof, exported: ClipProof) -> None:
    assert halved.spec["precision"] == "fp16"
    images, tokens = random_images(4), open_clip.tokenize(TEXTS, 20).numpy()
    pairs = zip(answers(halved.path, images, tokens), answers(exported.path, images, tokens), strict=True)
    differences = [one_minus_cosine(found, expected) for found, expected in pairs]
    assert max(differences) < 1e-4
    assert min(differences) > 1e-10  # something was rounded
    for name in FILES[1:3]:
        assert (halved.path / name).stat().st_size < 0.7 * (exported.path / name).stat().st_size
        graph = onnx.load(halved.path / name).graph
        assert {tensor.type.tensor_type.elem_type for tensor in graph.output} == {TensorProto.FLOAT}
        products = [node for node in graph.node if node.op_type in {"MatMul", "Gemm", "Conv"}]
        weights = {weight.name: weight.data_type for weight in graph.initializer}
        used = {weights[name] for node in products for name in node.input if name in weights}
        assert used == {TensorProto.FLOAT16}


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_fp16_keeps_the_norm_of_tiny_and_of_huge_features(exported: ClipProof, tmp_path: Path, factor: float) -> None:
    """Their squares leave FP16 at both ends; the normalisation is in FP32."""
    model = onnx.load(exported.path / "image.onnx")
    projection = next(w for w in model.graph.initializer if w.name.endswith("visual.proj"))
    scaled = onnx.numpy_helper.to_array(projection) * np.float32(factor)
    projection.CopyFrom(onnx.numpy_helper.from_array(scaled, projection.name))
    whole = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    half = onnxruntime.InferenceSession(halved_graph(model).SerializeToString(), providers=["CPUExecutionProvider"])
    expected, found = (session.run(["features"], {"images": random_images(2)})[0] for session in (whole, half))
    assert one_minus_cosine(found, expected) < 1e-4
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-4)


def test_other_weights_than_the_models_are_refused(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = onnx.save

    def tampered(graph: onnx.ModelProto, path: Path) -> None:
        weight = next(w for w in graph.graph.initializer if len(w.dims) == 2 and w.data_type == TensorProto.FLOAT)
        values = onnx.numpy_helper.to_array(weight) * np.float32(1.5)
        values[: len(values) // 2] *= -1
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        whole(graph, path)

    monkeypatch.setattr(clip_module.onnx, "save", tampered)
    with pytest.raises(ExportError, match=r"not equal to small: .*image features \(1 − cosine\) .* expected at most"):
        export_clip(str(small), tmp_path / "clip")
    assert list(tmp_path.iterdir()) == []


def test_other_tokens_than_the_models_are_refused(small: Path, tmp_path: Path) -> None:
    source = load_clip(str(small))
    source.tokenizer.file.normalizer = None  # upper case now counts
    with pytest.raises(ExportError, match="texts with other tokens"):
        write_clip(source, tmp_path / "clip")
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_and_prints_what_was_proven(small: Path, tmp_path: Path) -> None:
    done = run_cli(small, "--output", "made/clip", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in ("image features (1 − cosine)", "patch features (share)", "texts with other tokens", "with patch feat"):
        assert word in done.stdout, done.stdout
    assert sorted(path.name for path in (tmp_path / "made/clip").iterdir()) == FILES
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["clip"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ViT-B-32/openai", "the hub cannot be reached"),
        ("hf:openai/clip-vit-base-patch32", "the hub cannot be reached"),
    ],
)
def test_without_a_connection_the_command_says_so_at_once(name: str, said: str, tmp_path: Path) -> None:
    started = time.perf_counter()
    done = run_cli(name, cwd=tmp_path)
    # Importing the libraries takes most of it; the libraries' own patience is 24 to 46 s longer.
    assert time.perf_counter() - started < 30
    assert done.returncode == 2
    assert said in done.stderr
    assert "give " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nonsense", "nor an architecture of open_clip"),
        ("ViT-B-32/nope", "expected a tag of ViT-B-32: openai"),
        ("ViT-B-32=weights.pt", "its tags differ in quick_gelu"),
        ("ViT-L-14=weights.pt", "its tags differ in quick_gelu, mean, std"),
        ("ViT-B-32/openai=missing.pt", "missing.pt: no such file"),
        ("ViT-S-32-alt=garbage.safetensors", "garbage.safetensors: cannot be loaded"),
        ("ViT-S-32-alt=garbage.pt", "garbage.pt: cannot be loaded"),
        ("empty", "neither open_clip_config.json nor config.json"),
    ],
)
def test_what_cannot_be_loaded_is_refused(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for garbage in ("garbage.safetensors", "garbage.pt"):
        (tmp_path / garbage).write_bytes(b"no weights at all")
    with pytest.raises(ExportError) as caught:
        export_clip(name, tmp_path / "clip")
    assert said in str(caught.value)
    assert not (tmp_path / "clip").exists()


def test_weights_that_would_run_code_are_not_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ExportError, match="cannot be loaded"):
        load_clip(f"ViT-S-32-alt={tmp_path / 'trap.pt'}")
    assert not (tmp_path / "ran").exists()


def test_weights_bring_the_activation_and_the_images_of_their_tag(tmp_path: Path) -> None:
    """OpenAI's were trained with QuickGELU, the architecture ViT-B-32 has GELU; SigLIP's images are not OpenAI's."""
    from fastsam_deploy.export.clip.models import _settings

    assert _settings("ViT-B-32", "openai", needs_tag=False)["quick_gelu"] is True
    settings = _settings("ViT-B-16-SigLIP", "", needs_tag=False)
    assert (settings["mean"], settings["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")


class TestFolders:
    """What may be replaced: nothing that an export did not write."""

    @pytest.fixture
    def source(self, small: Path) -> Any:
        return load_clip(str(small))

    @pytest.mark.parametrize("held", [["notes.txt"], ["clip.json", "notes.txt"], ["image.onnx"]])
    def test_anything_else_is_left_alone(self, source: Any, tmp_path: Path, held: list[str]) -> None:
        for name in held:
            (tmp_path / name).write_text("mine")
        with pytest.raises(ExportError, match=f"holds .*{held[-1]}.*choose another"):
            write_clip(source, tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(held)
        assert all((tmp_path / name).read_text() == "mine" for name in held)

    def test_a_file_is_left_alone(self, source: Any, tmp_path: Path) -> None:
        (tmp_path / "clip").write_text("mine")
        with pytest.raises(ExportError, match="is a file"):
            write_clip(source, tmp_path / "clip")
        assert (tmp_path / "clip").read_text() == "mine"

    def test_an_empty_folder_and_an_earlier_export_are_replaced_but_not_by_a_failure(
        self, source: Any, tmp_path: Path
    ) -> None:
        target = tmp_path / "clip"
        target.mkdir()
        write_clip(source, target)
        (target / "image.onnx").write_bytes(b"old")
        write_clip(source, target)
        before = {path.name: path.read_bytes() for path in target.iterdir()}
        assert len(before["image.onnx"]) > 1000
        source.tokenizer.file.normalizer = None
        with pytest.raises(ExportError, match="other tokens"):
            write_clip(source, target)
        assert {path.name: path.read_bytes() for path in target.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["clip"]


@pytest.fixture(scope="module")
def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_tiny_clip", ROOT / "scripts/dev/make_tiny_clip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tiny_clip_of_the_tests_is_what_its_script_makes(maker: Any, tmp_path: Path) -> None:
    kept = ROOT / "tests/data/clip-tiny"
    made = maker.make(tmp_path / "tiny")
    spec = json.loads((kept / "clip.json").read_text(encoding="utf-8"))
    for changing in ("sha256", "tools"):
        assert set(spec.pop(changing)) == set(made.spec.pop(changing))
    assert made.spec == {**spec, "logit_scale": pytest.approx(spec["logit_scale"])}
    images, tokens = random_images(3), padded(Tokenizer.from_file(str(kept / "tokenizer.json")), TEXTS, 24, 0, 599)
    again = padded(Tokenizer.from_file(str(made.path / "tokenizer.json")), TEXTS, 24, 0, 599)
    np.testing.assert_array_equal(again, tokens)
    for found, expected in zip(answers(made.path, images, tokens), answers(kept, images, tokens), strict=True):
        assert one_minus_cosine(found, expected) < 1e-4
    assert sum((kept / name).stat().st_size for name in FILES) < 400_000


def test_the_tiny_clip_tells_images_and_texts_apart() -> None:
    kept = ROOT / "tests/data/clip-tiny"
    file = Tokenizer.from_file(str(kept / "tokenizer.json"))
    texts = ["a dog", "a cat", "the red car", "a cup of coffee"]
    pictures, _, words = answers(kept, random_images(4), padded(file, texts, 24, 0, 599))
    for features in (pictures, words):
        cosines = (features @ features.T)[~np.eye(4, dtype=bool)]
        assert cosines.max() < 0.95


@pytest.mark.slow
def test_vit_b_32_of_full_size(tmp_path: Path) -> None:
    """Random weights, the architecture of the default model; 600 MB, a minute."""
    model = lively(open_clip.create_model("ViT-B-32-quickgelu"))
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    for half in (False, True):
        proof = export_clip(f"ViT-B-32/openai={tmp_path / 'weights.safetensors'}", tmp_path / f"clip-{half}", half=half)
        tokens = open_clip.tokenize(TEXTS).numpy()
        found = answers(proof.path, random_images(2, 224), tokens)
        expected = model.encode_text(torch.from_numpy(tokens)).numpy()
        assert found[1].shape == (2, 7, 7, 512)
        assert one_minus_cosine(found[2], expected) < (1e-3 if half else 1e-6)


def test_the_tiny_vocabulary_has_600_tokens_and_joins_common_words(maker: Any) -> None:
    tokenizer = maker.tiny_tokenizer()
    assert tokenizer.vocab_size == 600
    assert len(tokenizer.encode("a photo of the dog")) == 5
    assert len(tokenizer.encode("zyx")) == 3
