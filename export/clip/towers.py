"""The two halves of a CLIP model as networks to trace: L2-normalised features, and features of patches.

Patch features are the value path of the last attention block, as in MaskCLIP (Zhou et al. 2022, arXiv:2112.01071):
each patch passes alone through the value and output projections, then through the final layer norm and the projection.
The last block's queries, keys, residual and MLP are left out, because they mix the patches.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Encoder = Callable[[Tensor], Tensor]


class Features(nn.Module):  # type: ignore[misc]
    """A tower whose features (b, embed_dim) are L2-normalised in the graph.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> Features(layer, layer)(torch.ones(4, 3)).norm(dim=-1).shape
        torch.Size([4])
    """

    def __init__(self, model: nn.Module, encode: Encoder) -> None:
        """
        Args:
            model: contains the weights that `encode` uses.
            encode: images or tokens → features.
        """
        super().__init__()
        self.model = model
        self.encode = encode

    def forward(self, inputs: Tensor) -> Tensor:
        return F.normalize(self.encode(inputs), dim=-1)


class BatchFirstAttention(nn.Module):  # type: ignore[misc]
    """Self-attention with the weights of an `nn.MultiheadAttention`, without changing the order of the axes.

    The original transposes (b, n, width) to (n, b, width) and back around every product. That takes time, and ONNX
    Runtime 1.31 fuses a transposition with an FP16 product into an operator on which its CPU provider crashes.

    Example:
        >>> original = nn.MultiheadAttention(8, 2, batch_first=True).eval()
        >>> x = torch.ones(1, 5, 8)
        >>> torch.allclose(BatchFirstAttention(original)(x, x, x)[0], original(x, x, x)[0], atol=1e-6)
        True
    """

    def __init__(self, original: nn.MultiheadAttention) -> None:
        super().__init__()
        self.original = original
        self.heads = original.num_heads

    def forward(
        self, x: Tensor, k: Tensor, v: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Attention over `x` (b, n, width), which `k` and `v` are too; `attn_mask` is (n, n) or (b * heads, n, n)."""
        packed = F.linear(x, self.original.in_proj_weight, self.original.in_proj_bias)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in packed.chunk(3, -1))
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.unflatten(0, (-1, self.heads))
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=attn_mask)
        return self.original.out_proj(mixed.transpose(1, 2).flatten(2)), None

    def alone(self, x: Tensor) -> Tensor:
        """The value path, (b, n, width) → the same: attention in which each token sees only itself."""
        width = self.original.embed_dim
        weight, bias = self.original.in_proj_weight, self.original.in_proj_bias
        values: Tensor = self.original.out_proj(F.linear(x, weight[2 * width :], bias[2 * width :]))
        return values


def batch_first(model: Any) -> Any:
    """Copy an open_clip model and replace its attention by `BatchFirstAttention`; the weights are shared.

    Example:
        >>> model = nn.Sequential(nn.MultiheadAttention(8, 2, batch_first=True))
        >>> type(batch_first(model)[0]).__name__
        'BatchFirstAttention'
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    model = copy.deepcopy(model, shared)
    for block in list(model.modules()):
        for name, child in list(block.named_children()):
            plain = isinstance(child, nn.MultiheadAttention) and child._qkv_same_embed_dim and child.batch_first
            if plain and child.in_proj_bias is not None and child.bias_k is None and not child.add_zero_attn:
                setattr(block, name, BatchFirstAttention(child))
    return model


class OpenClipDense(nn.Module):  # type: ignore[misc]
    """Features (b, embed_dim) and patch features (b, gh, gw, embed_dim) of open_clip's `VisionTransformer`.

    Example:
        >>> tower = OpenClipDense(batch_first(model).visual)  # doctest: +SKIP
        >>> features, patches = tower(torch.zeros(1, 3, 224, 224))  # doctest: +SKIP
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        visual = self.visual
        *earlier, last = visual.transformer.resblocks
        x = visual._embeds(images)
        for block in earlier:
            x = block(x)
        pooled, _ = visual._pool(last(x))
        patches = visual.ln_post(last.attn.alone(last.ln_1(x)[:, 1:])) @ visual.proj
        return F.normalize(pooled @ visual.proj, dim=-1), patches.unflatten(1, visual.grid_size)


def open_clip_has_patches(visual: nn.Module) -> bool:
    """Is this a plain ViT with a class token, of which `OpenClipDense` can give patch features?

    Example:
        >>> open_clip_has_patches(nn.Identity())
        False
    """
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    return (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and visual.proj is not None
        and all(
            type(block) is ResidualAttentionBlock and isinstance(block.ls_1, nn.Identity)
            for block in visual.transformer.resblocks
        )
    )


class TransformersDense(nn.Module):  # type: ignore[misc]
    """Features (b, embed_dim) and patch features (b, gh, gw, embed_dim) of transformers' `CLIPModel`.

    Example:
        >>> features, patches = TransformersDense(model)(torch.zeros(1, 3, 224, 224))  # doctest: +SKIP
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision = model.vision_model
        self.projection = model.visual_projection
        side = model.config.vision_config.image_size // model.config.vision_config.patch_size
        self.grid = (side, side)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        *earlier, last = self.vision.encoder.layers
        x = self.vision.pre_layrnorm(self.vision.embeddings(images))
        for block in earlier:
            x = block(x, attention_mask=None)
        pooled = self.vision.post_layernorm(last(x, attention_mask=None)[:, 0])
        attention = last.self_attn
        values = attention.out_proj(attention.v_proj(last.layer_norm1(x)[:, 1:]))
        patches = self.projection(self.vision.post_layernorm(values))
        return F.normalize(self.projection(pooled), dim=-1), patches.unflatten(1, self.grid)


def _only_itself(size: int) -> Tensor:
    """Mask (size, size) float32 with which a token sees only itself: attention is then the value path."""
    return torch.full((size, size), -torch.inf).fill_diagonal_(0)


def open_clip_patches(visual: Any, images: Tensor) -> Tensor:
    """Compute reference patch features with open_clip's attention, in which each token sees only itself.

    Example:
        >>> open_clip_patches(model.visual, torch.zeros(1, 3, 224, 224)).shape  # doctest: +SKIP
        torch.Size([1, 7, 7, 512])
    """
    last = visual.transformer.resblocks[-1]
    x = last.ln_1(_input_of(last, visual, images))
    answer = last.attn(x, x, x, need_weights=False, attn_mask=_only_itself(x.shape[1]))[0][:, 1:]
    patches: Tensor = visual.ln_post(answer) @ visual.proj
    return patches.unflatten(1, visual.grid_size)


def transformers_patches(model: Any, images: Tensor) -> Tensor:
    """Compute reference patch features with transformers' attention, in which each token sees only itself.

    Example:
        >>> transformers_patches(model, torch.zeros(1, 3, 224, 224)).shape  # doctest: +SKIP
        torch.Size([1, 7, 7, 512])
    """
    vision = model.vision_model
    last = vision.encoder.layers[-1]
    x = last.layer_norm1(_input_of(last, vision, images))
    answer = last.self_attn(x, attention_mask=_only_itself(x.shape[1])[None, None])[0][:, 1:]
    patches: Tensor = model.visual_projection(vision.post_layernorm(answer))
    side = round(patches.shape[1] ** 0.5)
    return patches.unflatten(1, (side, side))


def _input_of(block: nn.Module, network: nn.Module, images: Tensor) -> Tensor:
    """Input of `block` when `network` runs on `images`."""
    seen: list[Tensor] = []
    hook = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        network(images)
    finally:
        hook.remove()
    return seen[0]
