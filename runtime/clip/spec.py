"""The contract of a CLIP folder: `clip.json`, `image.onnx`, `text.onnx` and `tokenizer.json`.

`fastsam-export clip` writes such folders and stores SHA-256 sums of the files in `clip.json`. Opening a folder checks
that the files exist and that their tensors fit. It does not verify the sums, which would read hundreds of megabytes
once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..documents import parse
from ..errors import ModelError
from ..network import TensorInfo
from ..system.inputs import read_file

FORMAT = 1
"""Highest `format` of clip.json that this version reads."""

SPEC_FILE, TOKENIZER_FILE = "clip.json", "tokenizer.json"
_AGAIN = "make the folder again with fastsam-export clip"
_Tensors = dict[str, tuple[tuple[int | None, ...], str]]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """The image encoder: its file and the preprocessing of its input.

    Attributes:
        file: ONNX file with the input `images` (b, 3, H, W) and the output `features` (b, embed_dim).
        size_hw: H and W, pixels.
        mean, std: of RGB in [0, 1].
        interpolation: "bicubic" or "bilinear", both with antialiasing.
        resize: how the model's own library resizes: "shortest_crop" (fit the shorter side, then crop the centre) or
            "squash" (both sides, without keeping the aspect ratio).
        dense: whether there is an output `patch_features` (b, gh, gw, embed_dim).

    Example:
        >>> half = (0.5, 0.5, 0.5)
        >>> ImageInput("image.onnx", (224, 224), half, half, "bicubic", "squash", dense=False).size_hw
        (224, 224)
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
    """The text encoder: its file and the format of its token ids.

    Attributes:
        file: ONNX file with the input `tokens` (b, context_length) and the output `features` (b, embed_dim).
        context_length: tokens in a row, including start and end.
        pad_id: id of the padding.
        start_id: id of the start token; None if the model has none.
        end_id: id of the end token.

    Example:
        >>> TextInput("text.onnx", context_length=77, pad_id=0, start_id=49406, end_id=49407).end_id
        49407
    """

    file: str
    context_length: int
    pad_id: int
    start_id: int | None
    end_id: int


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """The content of `clip.json`.

    Attributes:
        name: name of the exported model in `library`.
        library: the library that the model is from.
        embed_dim: length of a feature.
        precision: "fp32" or "fp16", of the weights and the arithmetic; inputs and outputs are FP32 and INT64.
        image, text: the two encoders.
        logit_scale, logit_bias: a logit is scale x cosine (+ bias).
        probability: "softmax" over the compared masks, or "sigmoid" of each logit.
        tools: name → version of the programs that wrote the folder.

    Example:
        >>> spec = read_clip_spec("clip")                                   # doctest: +SKIP
        >>> spec.embed_dim, spec.probability                                # doctest: +SKIP
        (512, 'softmax')
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
    """Read `clip.json` and check that the files it names exist. Their SHA-256 sums are not verified.

    Raises:
        ModelError: the folder or a file is missing, or `clip.json` is not valid.

    Example:
        >>> read_clip_spec("clip").image.size_hw                            # doctest: +SKIP
        (224, 224)
    """
    folder = Path(folder)
    path = folder / SPEC_FILE
    try:
        spec = clip_spec_from_json(read_file(path).decode("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: {getattr(error, 'strerror', None) or error}; expected a folder that fastsam-export clip wrote; "
            "check the path, or make one: fastsam-export clip --output clip"
        ) from error
    missing = [name for name in (spec.image.file, spec.text.file, TOKENIZER_FILE) if not (folder / name).is_file()]
    if missing:
        raise ModelError(f"{folder}: {', '.join(missing)} missing, expected beside {SPEC_FILE}; {_AGAIN}")
    return spec


def clip_spec_from_json(text: str, source: str = SPEC_FILE) -> ClipSpec:
    """Parse the text of a `clip.json`. Unknown keys are ignored.

    Args:
        text: the JSON text.
        source: file name for messages.

    Raises:
        ModelError: the text is not JSON, has a newer format, or a key is missing or has an unknown value.

    Example:
        >>> clip_spec_from_json('{"format": 2}')
        Traceback (most recent call last):
        ...
        fastsam_deploy.runtime.errors.ModelError: clip.json: has format 2, this version reads up to 1; update \
fastsam-deploy, or export the folder with this version
    """
    try:
        document = parse(text)
        version = document["format"]
        if version > FORMAT:
            raise ModelError(
                f"{source}: has format {version}, this version reads up to {FORMAT}; update fastsam-deploy, or export "
                "the folder with this version"
            )
        spec = ClipSpec(
            name=str(document["name"]),
            library=str(document["library"]),
            embed_dim=int(document["embed_dim"]),
            precision=_choice(document, "precision", ("fp32", "fp16")),
            image=_image_input(document["image"]),
            text=_text_input(document["text"]),
            logit_scale=float(document["logit_scale"]),
            logit_bias=None if document["logit_bias"] is None else float(document["logit_bias"]),
            probability=_choice(document, "probability", ("softmax", "sigmoid")),
            tools=dict(document.get("tools", {})),
        )
    except KeyError as error:
        raise ModelError(f"{source}: the key {error} is missing; {_AGAIN}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{source}: {error}; expected the clip.json of a CLIP folder; {_AGAIN}") from error
    return spec


def check_encoder(
    spec: ClipSpec, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], source: str, *, text: bool
) -> None:
    """Check that a network is the encoder that the spec describes.

    Args:
        spec: the spec of the CLIP folder.
        inputs, outputs: the tensors of the network.
        source: name of the network for messages.
        text: whether the network is the text encoder, not the image encoder.

    Raises:
        ModelError: a tensor is missing, or of another size or type.

    Example:
        >>> network, spec = open_network("clip/text.onnx"), read_clip_spec("clip")          # doctest: +SKIP
        >>> check_encoder(spec, network.inputs, network.outputs, network.name, text=True)   # doctest: +SKIP
    """
    expected_inputs: _Tensors = {"images": ((3, *spec.image.size_hw), "float32")}
    if text:
        expected_inputs = {"tokens": ((spec.text.context_length,), "int64")}
    expected_outputs: _Tensors = {"features": ((spec.embed_dim,), "float32")}
    if spec.image.dense and not text:
        expected_outputs["patch_features"] = ((None, None, spec.embed_dim), "float32")
    for tensors, expected in ((inputs, expected_inputs), (outputs, expected_outputs)):
        by_name = {tensor.name: tensor for tensor in tensors}
        for name, (shape, dtype) in expected.items():
            tensor = by_name.get(name)
            if tensor is None or not _fits(tensor, shape, dtype):
                sides = ", ".join("any" if side is None else str(side) for side in shape)
                listed = "; ".join(map(str, tensors)) or "no tensors"
                raise ModelError(
                    f"{source}: has {listed}; {SPEC_FILE} says {name} (b, {sides}) {dtype}: an encoder of another "
                    f"model or size; {_AGAIN}"
                )
    if len(inputs) != 1:
        raise ModelError(
            f"{source}: inputs are {'; '.join(map(str, inputs))}; expected {', '.join(expected_inputs)}; {_AGAIN}"
        )


def _fits(tensor: TensorInfo, shape: tuple[int | None, ...], dtype: str) -> bool:
    """Whether dtype and sizes after the batch are equal. A size that is None in either shape always fits."""
    if len(tensor.shape) != len(shape) + 1 or tensor.dtype != dtype:
        return False
    return all(None in sides or sides[0] == sides[1] for sides in zip(tensor.shape[1:], shape, strict=True))


def _image_input(document: Mapping[str, Any]) -> ImageInput:
    height, width = (int(side) for side in document["size"])
    return ImageInput(
        file=_file_name(document),
        size_hw=(height, width),
        mean=_rgb(document, "mean"),
        std=_rgb(document, "std"),
        interpolation=_choice(document, "interpolation", ("bicubic", "bilinear")),
        resize=_choice(document, "resize", ("shortest_crop", "squash")),
        dense=bool(document["dense"]),
    )


def _text_input(document: Mapping[str, Any]) -> TextInput:
    return TextInput(
        file=_file_name(document),
        context_length=int(document["context_length"]),
        pad_id=int(document["pad_id"]),
        start_id=None if document["start_id"] is None else int(document["start_id"]),
        end_id=int(document["end_id"]),
    )


def _file_name(document: Mapping[str, Any]) -> str:
    name = str(document["file"])
    if name != Path(name).name:  # a folder from elsewhere must not refer to files outside itself
        raise ValueError(f"file is {name!r}, expected the name of a file in the folder")
    return name


def _rgb(document: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in document[key])
    return red, green, blue


def _choice(document: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = document[key]
    if value not in known:
        raise ValueError(f"{key} is {value!r}, expected {' or '.join(known)}")
    return str(value)
