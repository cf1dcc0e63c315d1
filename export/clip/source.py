"""A CLIP model of open_clip or transformers in one form: what is exported, and what the export is compared with."""

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
    """How images are prepared for the model.

    Attributes:
        size: (H, W), pixels.
        mean, std: of RGB in [0, 1].
        interpolation: "bicubic" or "bilinear".
        resize: "shortest_crop" (the shortest edge, then a centre crop) or "squash" (both edges).
        patch_size: side of a patch, pixels; None where the model has none.

    Example:
        >>> ImageSettings((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "squash", 16).size
        (224, 224)
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    resize: str
    patch_size: int | None


@dataclass(frozen=True)
class ClipSource:
    """A CLIP model: towers to export, and functions of the library to compare them with.

    Attributes:
        name: of the model.
        library: "open_clip" or "transformers".
        image_tower: images (b, 3, H, W) → features, or (features, patch features) where `patches` is not None.
        text_tower: tokens (b, context_length) int64 → features.
        encode_image, encode_text: the same features (b, embed_dim), L2-normalised, computed by the library.
        patches: images → patch features (b, gh, gw, embed_dim), computed by the library's attention; None if the model
            has no patch features.
        image: how images are prepared.
        tokenizer: for the file, and of the library.
        logit_scale: factor of a cosine.
        logit_bias: added to the product; None where the model has none.
        probability: "softmax" or "sigmoid" of the logits.

    Example:
        >>> source = load_clip("ViT-B-32/openai")  # doctest: +SKIP
        >>> source.probability, source.tokenizer.context_length  # doctest: +SKIP
        ('softmax', 77)
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
    """Make a source of a model and tokenizer of open_clip; the model is put in FP32 and eval mode.

    Raises:
        ExportError: clip.json cannot describe the tokenizer, or the way in which images are prepared.

    Example:
        >>> model = open_clip.create_model("ViT-B-32", pretrained="openai")  # doctest: +SKIP
        >>> source_from_open_clip(model, open_clip.get_tokenizer("ViT-B-32"), "ViT-B-32/openai")  # doctest: +SKIP
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
    settings = visual.preprocess_cfg
    resize = {"shortest": "shortest_crop", "squash": "squash"}.get(settings["resize_mode"])
    if resize is None or settings["interpolation"] not in _INTERPOLATIONS:
        raise ExportError(
            f"{name}: images are prepared with resize mode {settings['resize_mode']!r} and interpolation "
            f"{settings['interpolation']!r}; expected shortest or squash, bicubic or bilinear"
        )
    size = settings["size"]
    patch = getattr(visual, "patch_size", None)
    return ImageSettings(
        size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        mean=tuple(map(float, settings["mean"])),
        std=tuple(map(float, settings["std"])),
        interpolation=_INTERPOLATIONS[settings["interpolation"]],
        resize=resize,
        patch_size=patch[0] if isinstance(patch, tuple) else patch,
    )


def source_from_transformers(model: Any, tokenizer: Any, processor: Any, name: str) -> ClipSource:
    """Make a source of a `CLIPModel` or `SiglipModel`; the model is put in FP32 and eval mode.

    Raises:
        ExportError: clip.json cannot describe the tokenizer, or the way in which images are prepared.

    Example:
        >>> source_from_transformers(model, tokenizer, image_processor, "clip-vit-base-patch32")  # doctest: +SKIP
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
    """Size of the weights in FP32.

    Example:
        >>> size_in_bytes(nn.Linear(3, 2))
        32
    """
    return 4 * sum(int(weight.numel()) for weight in tower.parameters())
