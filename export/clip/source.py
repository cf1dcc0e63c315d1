"""A CLIP model of open_clip or transformers in one form: what is exported, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ExportError
from .tokenizer import ClipTokenizer, from_open_clip_hf, from_simple_tokenizer, from_transformers
from .towers import (
    Features,
    OpenClipDense,
    TransformersDense,
    batch_first,
    open_clip_has_patches,
    open_clip_patches,
    transformers_patches,
)

_INTERPOLATIONS = {"bicubic": "bicubic", "bilinear": "bilinear", 3: "bicubic", 2: "bilinear"}


@dataclass(frozen=True)
class ImageSettings:
    """How the model wants its images: `size` is (H, W); `mean`, `std` of RGB in [0, 1]; see clip.json."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize: str
    patch_size: int | None


@dataclass(frozen=True)
class ClipSource:
    """A CLIP model: towers to export, and the library's own answers to compare them with.

    Attributes:
        name, library: where it is from.
        image_tower: images (b, 3, H, W) → features, or (features, patch features) where `patches` is not None.
        text_tower: tokens (b, context_length) int64 → features.
        encode_image, encode_text: the same features (b, embed_dim), L2-normalised, by the library itself.
        patches: images → patch features (b, gh, gw, embed_dim) by the library's own attention; None: has none.
        image: how images are prepared.
        tokenizer: the file and the library's own.
        logit_scale: factor of a cosine; logit_bias: added to it, None where the model has none.
        probability: "softmax" or "sigmoid" of the logits.
    """

    name: str
    library: str
    image_tower: nn.Module
    text_tower: nn.Module
    encode_image: Callable[[Tensor], Tensor]
    encode_text: Callable[[Tensor], Tensor]
    patches: Callable[[Tensor], Tensor] | None
    image: ImageSettings
    tokenizer: ClipTokenizer
    logit_scale: float
    logit_bias: float | None
    probability: str


def source_from_open_clip(model: Any, tokenizer: Any, name: str) -> ClipSource:
    """A model and tokenizer of open_clip as a source; the model is put in FP32 and eval mode.

    Raises:
        ExportError: images are prepared in a way, or the tokenizer is of a kind, that clip.json cannot say.
    """
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    model = model.float().eval().requires_grad_(False)
    visual, length = model.visual, int(model.context_length)
    if isinstance(tokenizer, SimpleTokenizer):
        tokens = from_simple_tokenizer(tokenizer, length)
    elif isinstance(tokenizer, HFTokenizer):
        tokens = from_open_clip_hf(tokenizer, length)
    else:
        raise ExportError(f"{name}: its tokenizer is a {type(tokenizer).__name__}, which is not supported")
    dense = open_clip_has_patches(visual)
    traced = batch_first(model)
    bias = model.logit_bias
    return ClipSource(
        name=name,
        library="open_clip",
        image_tower=OpenClipDense(traced.visual) if dense else Features(traced.visual, traced.visual),
        text_tower=Features(traced, traced.encode_text),
        encode_image=lambda images: model.encode_image(images, normalize=True),
        encode_text=lambda texts: model.encode_text(texts, normalize=True),
        patches=(lambda images: open_clip_patches(visual, images)) if dense else None,
        image=_open_clip_images(visual, name),
        tokenizer=tokens,
        logit_scale=float(model.logit_scale.exp()),
        logit_bias=None if bias is None else float(bias),
        probability="softmax" if bias is None else "sigmoid",
    )


def _open_clip_images(visual: Any, name: str) -> ImageSettings:
    found = visual.preprocess_cfg
    resize = {"shortest": "shortest_crop", "squash": "squash"}.get(found["resize_mode"])
    if resize is None or found["interpolation"] not in _INTERPOLATIONS:
        raise ExportError(
            f"{name}: images are prepared with resize mode {found['resize_mode']!r} and interpolation "
            f"{found['interpolation']!r}; expected shortest or squash, bicubic or bilinear"
        )
    size = found["size"]
    patch = getattr(visual, "patch_size", None)
    return ImageSettings(
        size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        mean=tuple(map(float, found["mean"])),
        std=tuple(map(float, found["std"])),
        interpolation=_INTERPOLATIONS[found["interpolation"]],
        resize=resize,
        patch_size=patch[0] if isinstance(patch, tuple) else patch,
    )


def source_from_transformers(model: Any, tokenizer: Any, processor: Any, name: str) -> ClipSource:
    """A `CLIPModel` or `SiglipModel` as a source; the model is put in FP32 and eval mode.

    Raises:
        ExportError: images are prepared in a way, or the tokenizer is of a kind, that clip.json cannot say.
    """
    model = model.float().eval().requires_grad_(False)
    dense = model.config.model_type == "clip"
    bias = getattr(model, "logit_bias", None)

    def encode_image(images: Tensor) -> Tensor:
        answer: Tensor = model.get_image_features(pixel_values=images).pooler_output
        return answer

    def encode_text(tokens: Tensor) -> Tensor:
        answer: Tensor = model.get_text_features(input_ids=tokens).pooler_output
        return answer

    return ClipSource(
        name=name,
        library="transformers",
        image_tower=TransformersDense(model) if dense else Features(model, encode_image),
        text_tower=Features(model, encode_text),
        encode_image=lambda images: F.normalize(encode_image(images), dim=-1),
        encode_text=lambda tokens: F.normalize(encode_text(tokens), dim=-1),
        patches=(lambda images: transformers_patches(model, images)) if dense else None,
        image=_transformers_images(processor, model.config.vision_config, name),
        tokenizer=from_transformers(tokenizer, int(model.config.text_config.max_position_embeddings)),
        logit_scale=float(model.logit_scale.exp()),
        logit_bias=None if bias is None else float(bias),
        probability="softmax" if bias is None else "sigmoid",
    )


def _transformers_images(processor: Any, config: Any, name: str) -> ImageSettings:
    size = dict(processor.size)
    side = int(config.image_size)
    crop = bool(getattr(processor, "do_center_crop", False))
    shortest = (
        size.get("shortest_edge") == side and crop and dict(processor.crop_size) == {"height": side, "width": side}
    )
    squash = size.get("height") == side and size.get("width") == side and not crop
    interpolation = _INTERPOLATIONS.get(int(processor.resample))
    if not (shortest or squash) or interpolation is None:
        raise ExportError(
            f"{name}: images are resized to {size} with filter {processor.resample}, centre crop {crop}; expected the "
            f"shortest edge or both to be {side}, bicubic (3) or bilinear (2)"
        )
    return ImageSettings(
        size=(side, side),
        mean=tuple(map(float, processor.image_mean)),
        std=tuple(map(float, processor.image_std)),
        interpolation=interpolation,
        resize="shortest_crop" if shortest else "squash",
        patch_size=int(config.patch_size),
    )


def size_in_bytes(tower: nn.Module) -> int:
    """Of the weights in FP32."""
    return 4 * sum(int(weight.numel()) for weight in tower.parameters())
