"""The contract of a CLIP folder: `clip.json` beside `image.onnx`, `text.onnx` and `tokenizer.json`.

`fastsam-export clip` writes such folders and puts SHA-256 sums of the files into `clip.json`. Opening a folder checks
that the files are there and that their tensors fit; it does not read hundreds of megabytes once more for the sums.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..spec import TensorInfo

FORMAT = 1
"""Highest `format` of clip.json that is understood."""

SPEC_FILE, TOKENIZER_FILE = "clip.json", "tokenizer.json"
_AGAIN = "make the folder again with fastsam-export clip"
_Tensors = dict[str, tuple[tuple[int | None, ...], str]]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """How the image encoder wants its input.

    Attributes:
        file: ONNX file with the input `images` (b, 3, H, W) and the output `features` (b, embed_dim).
        size_hw: H and W, pixels.
        mean, std: of RGB in [0, 1].
        interpolation: "bicubic" or "bilinear", both with antialiasing.
        resize: how the model's own library makes the size: "shortest_crop" (shorter side, then the centre) or
            "squash" (both sides, aspect not kept).
        dense: has the output `patch_features` (b, gh, gw, embed_dim) too.
    """

    file: str
    size_hw: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    resize: str
    dense: bool


@dataclass(frozen=True, slots=True)
class TextInput:
    """How the text encoder wants its input.

    Attributes:
        file: ONNX file with the input `tokens` (b, context_length) and the output `features` (b, embed_dim).
        context_length: tokens in a row, start and end included.
        pad_id: fills a row up.
        start_id: begins a text; None where the model has no such token.
        end_id: ends a text.
    """

    file: str
    context_length: int
    pad_id: int
    start_id: int | None
    end_id: int


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """What a CLIP folder holds.

    Attributes:
        name: what was exported, in the words of `library`.
        embed_dim: length of a feature.
        precision: "fp32" or "fp16", of weights and arithmetic; tensors that go in and out are FP32 and INT64.
        image, text: the two encoders.
        logit_scale, logit_bias: a logit is scale x cosine (+ bias).
        probability: "softmax" over what is compared, or "sigmoid" of each.
        tools: name → version of what wrote the folder.
    """

    name: str
    library: str
    embed_dim: int
    precision: str
    image: ImageInput
    text: TextInput
    logit_scale: float
    logit_bias: float | None
    probability: str
    tools: Mapping[str, str] = field(default_factory=dict)


def read_clip_spec(folder: str | Path) -> ClipSpec:
    """Read `clip.json` and see that the files it names are there. Their sums are not verified.

    Raises:
        ModelError: the folder or a file is missing, or `clip.json` is not of this format.
    """
    folder = Path(folder)
    path = folder / SPEC_FILE
    try:
        spec = clip_spec_from_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: {getattr(error, 'strerror', None) or error}; expected a folder that fastsam-export clip made; "
            "check the path, or make one: fastsam-export clip --output clip"
        ) from error
    missing = [name for name in (spec.image.file, spec.text.file, TOKENIZER_FILE) if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder}: {', '.join(missing)} missing, expected beside {SPEC_FILE}; {_AGAIN}")
    return spec


def clip_spec_from_json(text: str, source: str = SPEC_FILE) -> ClipSpec:
    """The spec in the text of a `clip.json`. Unknown keys are ignored.

    Raises:
        ModelError: no JSON, a higher format, a missing key, or a value that is none of those known.
    """
    try:
        found = json.loads(text)
        version = found["format"]
        if version > FORMAT:
            raise ModelError(
                f"{source}: has format {version}, this version reads up to {FORMAT}; update fastsam-deploy, or export "
                "the folder with this version"
            )
        spec = ClipSpec(
            name=str(found["name"]),
            library=str(found["library"]),
            embed_dim=int(found["embed_dim"]),
            precision=_one_of(found, "precision", ("fp32", "fp16")),
            image=_image_input(found["image"]),
            text=_text_input(found["text"]),
            logit_scale=float(found["logit_scale"]),
            logit_bias=None if found["logit_bias"] is None else float(found["logit_bias"]),
            probability=_one_of(found, "probability", ("softmax", "sigmoid")),
            tools=dict(found.get("tools", {})),
        )
    except KeyError as error:
        raise ModelError(f"{source}: the key {error} is missing; {_AGAIN}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{source}: {error}; expected the clip.json of a CLIP folder; {_AGAIN}") from error
    return spec


def check_encoder(
    spec: ClipSpec, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], source: str, *, text: bool
) -> None:
    """See that a network is the encoder that the spec describes.

    Args:
        source: name of the network for messages.
        text: it is the text encoder, not that of images.

    Raises:
        ModelError: a tensor is missing, or of another size or type.
    """
    takes: _Tensors = {"images": ((3, *spec.image.size_hw), "float32")}
    if text:
        takes = {"tokens": ((spec.text.context_length,), "int64")}
    gives: _Tensors = {"features": ((spec.embed_dim,), "float32")}
    if spec.image.dense and not text:
        gives["patch_features"] = ((None, None, spec.embed_dim), "float32")
    for tensors, expected in ((inputs, takes), (outputs, gives)):
        found = {tensor.name: tensor for tensor in tensors}
        for name, (shape, dtype) in expected.items():
            tensor = found.get(name)
            if tensor is None or not _fits(tensor, shape, dtype):
                sides = ", ".join("any" if side is None else str(side) for side in shape)
                have = "; ".join(map(str, tensors)) or "no tensors"
                raise ModelError(
                    f"{source}: has {have}; {SPEC_FILE} says {name} (b, {sides}) {dtype}: an encoder of another "
                    f"model or size; {_AGAIN}"
                )
    if len(inputs) != 1:
        raise ModelError(f"{source}: inputs are {'; '.join(map(str, inputs))}; expected {', '.join(takes)}; {_AGAIN}")


def _fits(tensor: TensorInfo, shape: tuple[int | None, ...], dtype: str) -> bool:
    """Equal sizes after the batch; a size that one of both leaves open fits."""
    if len(tensor.shape) != len(shape) + 1 or tensor.dtype != dtype:
        return False
    return all(None in (have, want) or have == want for have, want in zip(tensor.shape[1:], shape, strict=True))


def _image_input(found: Mapping[str, Any]) -> ImageInput:
    height, width = (int(side) for side in found["size"])
    return ImageInput(
        file=_file_name(found),
        size_hw=(height, width),
        mean=_three(found, "mean"),
        std=_three(found, "std"),
        interpolation=_one_of(found, "interpolation", ("bicubic", "bilinear")),
        resize=_one_of(found, "resize", ("shortest_crop", "squash")),
        dense=bool(found["dense"]),
    )


def _text_input(found: Mapping[str, Any]) -> TextInput:
    return TextInput(
        file=_file_name(found),
        context_length=int(found["context_length"]),
        pad_id=int(found["pad_id"]),
        start_id=None if found["start_id"] is None else int(found["start_id"]),
        end_id=int(found["end_id"]),
    )


def _file_name(found: Mapping[str, Any]) -> str:
    name = str(found["file"])
    if name != Path(name).name:  # a folder from elsewhere does not get to name files outside it
        raise ValueError(f"file is {name!r}, expected the name of a file in the folder")
    return name


def _three(found: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in found[key])
    return red, green, blue


def _one_of(found: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = found[key]
    if value not in known:
        raise ValueError(f"{key} is {value!r}, expected {' or '.join(known)}")
    return str(value)
