"""Models of other kinds: CLIP and SigLIP of transformers, SigLIP of open_clip; read from local folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]: torch is not installed")
pytest.importorskip("open_clip", reason="needs the extra [clip-export]: open_clip is not installed")
pytest.importorskip("transformers", reason="needs the extra [clip-export]: transformers is not installed")

import onnxruntime
import open_clip
import torch
import transformers
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from fastsam_deploy.export.clip.models import load_clip
from fastsam_deploy.export.clip.to_clip import export_clip
from fastsam_deploy.export.clip.tokenizer import padded
from fastsam_deploy.export.errors import ExportError
from fastsam_deploy.runtime.clip.spec import read_clip_spec

pytestmark = pytest.mark.export

LAYERS = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE = {**LAYERS, "image_size": 64, "patch_size": 16}
TEXTS = ["a dog", "The RED car!", "", "two_cats, and (three) dogs " * 8]


def lively(model: Any) -> Any:
    """Random weights with which features depend on the input."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                weight.normal_(std=1.3 * weight[0].numel() ** -0.5)
            elif weight.ndim == 1 and "logit" not in name:
                weight.normal_(mean=1.0 if name.endswith("weight") else 0.0, std=0.1)
    return model.eval().requires_grad_(False)


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, 3, 64, 64)).astype(np.float32)


def run(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)


def unit(features: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(features, dim=-1).numpy()


def unigram_tokenizer(length: int) -> transformers.PreTrainedTokenizerFast:
    """Like SigLIP's: sentence pieces, an end token that also pads, no start token; trained on a few words."""
    inner = Tokenizer(models.Unigram())
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    inner.train_from_iterator(["a photo of two dogs and three cats", "the red car"] * 20, trainer)
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    inner.normalizer = normalizers.Lowercase()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="</s>", unk_token="<unk>", model_max_length=length
    )


@pytest.fixture(scope="module")
def transformers_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "clip"
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    real = SimpleTokenizer()
    vocabulary = {names.get(word, word): i for word, i in real.encoder.items()}
    transformers.CLIPTokenizer(vocab=vocabulary, merges=list(real.bpe_ranks), model_max_length=77).save_pretrained(
        folder
    )
    text = {**LAYERS, "bos_token_id": 49406, "eos_token_id": 49407, "projection_dim": 32}
    config = transformers.CLIPConfig(projection_dim=32, text_config=text, vision_config={**IMAGE, "projection_dim": 32})
    lively(transformers.CLIPModel(config)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    transformers.CLIPImageProcessor(**size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def transformers_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "siglip"
    unigram_tokenizer(16).save_pretrained(folder)
    text = {**LAYERS, "vocab_size": 300, "max_position_embeddings": 16, "projection_size": 64}
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1}
    model = lively(
        transformers.SiglipModel(transformers.SiglipConfig(text_config={**text, **ends}, vision_config=IMAGE))
    )
    model.logit_scale.fill_(float(np.log(20)))
    model.logit_bias.fill_(-7.5)
    model.save_pretrained(folder)
    transformers.SiglipImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def open_clip_siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As on open_clip's hub: image tower of timm, text tower without a causal mask, tokenizer of transformers."""
    folder = tmp_path_factory.mktemp("models") / "open-siglip"
    unigram_tokenizer(16).save_pretrained(folder)
    text = {"context_length": 16, "vocab_size": 300, "width": 64, "heads": 2, "layers": 2, "no_causal_mask": True}
    kind = {"hf_tokenizer_name": "any", "tokenizer_kwargs": {"clean": "canonicalize"}, "pool_type": "last"}
    config = {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**text, **kind, "proj_bias": True},
    }
    preparation = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preparation}))
    plain = {key: value for key, value in config.items() if key != "custom_text"}
    model = lively(open_clip.CustomTextCLIP(**plain))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.mark.parametrize("half", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_clip_of_transformers(transformers_clip: Path, tmp_path: Path, half: bool) -> None:
    proof = export_clip(str(transformers_clip), tmp_path / "clip", half=half)
    spec = proof.spec
    assert (spec["library"], spec["name"], spec["probability"]) == ("transformers", "clip", "softmax")
    assert spec["image"]["resize"] == "shortest_crop"
    assert spec["text"] == {
        "file": "text.onnx",
        "context_length": 77,
        "pad_id": 49407,
        "start_id": 49406,
        "end_id": 49407,
        "lowercase": True,
    }
    model = transformers.CLIPModel.from_pretrained(transformers_clip).eval().requires_grad_(False)
    tokens = transformers.AutoTokenizer.from_pretrained(transformers_clip)(
        TEXTS, padding="max_length", truncation=True, return_tensors="np"
    )["input_ids"]
    atol = 5e-3 if half else 1e-5
    features, patches = run(proof.path / "image.onnx", images=random_images(3))
    expected = model.get_image_features(pixel_values=torch.from_numpy(random_images(3))).pooler_output
    np.testing.assert_allclose(features, unit(expected), atol=atol)
    (words,) = run(proof.path / "text.onnx", tokens=tokens)
    expected = model.get_text_features(input_ids=torch.from_numpy(tokens)).pooler_output
    np.testing.assert_allclose(words, unit(expected), atol=atol)
    by_hand = patches_by_hand(model, random_images(3))
    assert patches.shape == (3, 4, 4, 32)
    assert np.abs(patches - by_hand).max() < (1e-2 if half else 1e-5) * np.abs(by_hand).max()


def patches_by_hand(model: Any, images: np.ndarray) -> np.ndarray:
    """The value path of the last layer, with the weights of the model as they were loaded."""
    last, seen = model.vision_model.encoder.layers[-1], []
    with last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        model.get_image_features(pixel_values=torch.from_numpy(images))
    attention = last.self_attn
    x = last.layer_norm1(seen[0])[:, 1:]
    values = x @ attention.v_proj.weight.T + attention.v_proj.bias
    values = values @ attention.out_proj.weight.T + attention.out_proj.bias
    projected = model.vision_model.post_layernorm(values) @ model.visual_projection.weight.T
    return projected.reshape(len(images), 4, 4, -1).numpy()


def test_siglip_of_transformers(transformers_siglip: Path, tmp_path: Path) -> None:
    proof = export_clip(str(transformers_siglip), tmp_path / "clip")
    spec = proof.spec
    assert spec["image"] == {
        "file": "image.onnx",
        "size": [64, 64],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize": "squash",
        "patch_size": 16,
        "dense": False,
    }
    assert (spec["text"]["start_id"], spec["text"]["end_id"], spec["text"]["pad_id"]) == (None, 1, 1)
    assert (spec["probability"], spec["logit_bias"]) == ("sigmoid", -7.5)
    assert spec["logit_scale"] == pytest.approx(20)
    read = read_clip_spec(proof.path)
    assert (read.text.start_id, read.image.dense) == (None, False)
    model = transformers.SiglipModel.from_pretrained(transformers_siglip).eval().requires_grad_(False)
    (features,) = run(proof.path / "image.onnx", images=random_images(2))
    expected = model.get_image_features(pixel_values=torch.from_numpy(random_images(2))).pooler_output
    np.testing.assert_allclose(features, unit(expected), atol=1e-5)


@pytest.mark.slow
def test_siglip_of_open_clip(open_clip_siglip: Path, tmp_path: Path) -> None:
    proof = export_clip(str(open_clip_siglip), tmp_path / "clip")
    spec = proof.spec
    assert (spec["image"]["resize"], spec["image"]["dense"], spec["embed_dim"]) == ("squash", False, 64)
    assert (spec["probability"], spec["logit_bias"], spec["text"]["start_id"]) == ("sigmoid", -10, None)
    # Its tokenizer drops punctuation and case before it cuts a text into pieces; the file does that too.
    reference = open_clip.get_tokenizer(f"local-dir:{open_clip_siglip}")
    file = Tokenizer.from_file(str(proof.path / "tokenizer.json"))
    tokens = padded(file, TEXTS, 16, 1, 1)
    np.testing.assert_array_equal(tokens, reference(TEXTS).numpy())
    assert file.encode("The RED, car!").ids == file.encode("the red car").ids
    model = open_clip.create_model(f"local-dir:{open_clip_siglip}").eval().requires_grad_(False)
    (words,) = run(proof.path / "text.onnx", tokens=tokens)
    np.testing.assert_allclose(words, unit(model.encode_text(torch.from_numpy(tokens))), atol=1e-5)


def changed(folder: Path, target: Path, file: str, **values: Any) -> Path:
    """A copy of a model folder in which `file` says something else."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).symlink_to(path)
    content = json.loads((folder / file).read_text(encoding="utf-8"))
    (target / file).unlink()
    (target / file).write_text(json.dumps({**content, **values}))
    return target


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("config.json", {"model_type": "bert"}, "is a model of type 'bert', expected clip or siglip"),
        ("preprocessor_config.json", {"do_center_crop": False}, "expected the shortest edge or both to be 64"),
        ("preprocessor_config.json", {"resample": 0}, r"bicubic \(3\) or bilinear \(2\)"),
    ],
)
def test_what_clip_json_cannot_say_is_refused(
    transformers_clip: Path, tmp_path: Path, file: str, values: dict[str, Any], said: str
) -> None:
    with pytest.raises(ExportError, match=said):
        load_clip(str(changed(transformers_clip, tmp_path / "model", file, **values)))


def test_a_folder_without_weights_or_tokenizer_is_refused(transformers_clip: Path, tmp_path: Path) -> None:
    for missing in ("model.safetensors", "preprocessor_config.json"):
        folder = changed(transformers_clip, tmp_path / missing, "config.json")
        (folder / missing).unlink()
        with pytest.raises(ExportError, match=r"cannot be loaded .* give a folder with config\.json"):
            load_clip(str(folder))


def test_open_clips_longest_side_preparation_is_refused(open_clip_siglip: Path, tmp_path: Path) -> None:
    preparation = {"resize_mode": "longest"}
    folder = changed(open_clip_siglip, tmp_path / "model", "open_clip_config.json", preprocess_cfg=preparation)
    with pytest.raises(ExportError, match="resize mode 'longest'"):
        load_clip(str(folder))
