"""Is an exported CLIP folder equal to its model? Compared on photographs, noise and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer

from ...runtime.engines.telemetry import without_telemetry
from ...runtime.measure.findings import Comparison, Finding
from ..errors import ExportError
from ..proof.outputs import malformed, share_off
from .source import ClipSource, ImageSettings
from .tokenizer import padded

Array = NDArray[np.float32]

IMAGE, PATCHES, TEXT = "image features", "patch features", "text features"
OTHER_TOKENS = "texts with other tokens"

CHUNK = 3
"""Number of inputs that are run together; each is also run alone."""

TEXTS = (
    "a photo of a dog",
    "A PHOTO OF A CAT",
    "the black cat on the left",
    "a red car parked beside a blue truck",
    "two people shaking hands",
    "coffee cup with latte art",
    "an astronaut in an orange space suit",
    "tree",
    "the dog's bone isn't hers, we've said; they'll see I'm right and you'd agree",
    "wheel of a bicycle, close-up",
    "7 apples and 12 oranges for $3.50",
    "a street sign that says “STOP”",
    "it’s the baker’s door",
    "don't   collapse\tmy\n\nspaces ",
    "a café in Zürich, smørrebrød and jalapeño",
    "naïve façade",
    "日本の猫",
    "一只在桌子上的猫，和一只狗！",
    "собака на траве",
    "ΟΔΥΣΣΕΥΣ",
    "كلب",
    "dog 🐕 and cat 🐈‍⬛ 🎉",
    "hello!!! (really?) [yes] {no} #tag @home 100% a/b a_b a-b",
    "x² + y³ = ½",
    "state-of-the-art 3D-printed ﬁgure",
    "supercalifragilisticexpialidocious",
    "",
    " ",
    "'s 't 're",
    "a very long description " * 12,
)
"""Texts that prompts may look like, and those that are hard for tokenizers."""


@dataclass(frozen=True)
class ClipLimits:
    """The largest difference allowed between the files and their model.

    Attributes:
        cosine: 1 − cosine of features, and of the features of each patch.
        patches: largest difference of patch features, a share of the model's largest value.

    Example:
        >>> ClipLimits(cosine=1e-4, patches=1e-3).cosine
        0.0001
    """

    cosine: float
    patches: float

    def by_quantity(self) -> dict[str, float | None]:
        """Quantity → limit, for `Comparison.findings`.

        Example:
            >>> FP32.by_quantity()["text features (1 − cosine)"]
            0.0001
        """
        return {
            OTHER_TOKENS: 0.0,
            f"{IMAGE} (1 − cosine)": self.cosine,
            f"{PATCHES} (1 − cosine)": self.cosine,
            f"{PATCHES} (share)": self.patches,
            f"{TEXT} (1 − cosine)": self.cosine,
        }


# Seen: 1e-12 and 2e-6 with a random ViT-B/32.
FP32 = ClipLimits(1e-4, 1e-3)
# Seen: 6e-7 and 8e-4 with a random ViT-B/32 on a CPU.
FP16 = ClipLimits(1e-3, 3e-2)


def validate_clip(
    folder: Path,
    source: ClipSource,
    photographs: Sequence[NDArray[np.uint8]],
    limits: ClipLimits,
    step: Callable[[str], None] = lambda _: None,
) -> tuple[Finding, ...]:
    """Compare the files in `folder` with the model they were made from.

    Args:
        folder: with `image.onnx`, `text.onnx` and `tokenizer.json`.
        source: the model.
        photographs: RGB uint8 (h, w, 3), at least one.
        limits: `FP32` or `FP16`.
        step: called with a description of each step.

    Raises:
        ExportError: with the numbers of every comparison that failed.

    Example:
        >>> findings = validate_clip(Path("clip"), source, load_photographs(), FP32)  # doctest: +SKIP
    """
    comparison = Comparison()
    step("comparing tokens")
    tokens = source.tokenizer.reference(TEXTS)
    _compare_tokens(Tokenizer.from_file(str(folder / "tokenizer.json")), tokens, source, comparison)
    step("comparing image features")
    images = images_for(source.image, photographs)
    _compare_tower(folder / "image.onnx", "images", images, source, comparison)
    step("comparing text features")
    _compare_tower(folder / "text.onnx", "tokens", tokens, source, comparison)
    if failed := comparison.failures(limits.by_quantity()):
        raise ExportError(
            f"the files are not equal to {source.name}: {'; '.join(failed)}. Nothing was written; leave --half out "
            "if it was given, and report it otherwise"
        )
    return comparison.findings(limits.by_quantity())


def images_for(settings: ImageSettings, photographs: Sequence[NDArray[np.uint8]]) -> Array:
    """Make inputs of the image tower: the photographs, cut to the model's shape, and an image of noise.

    Args:
        settings: of the model.
        photographs: n RGB uint8 (h, w, 3).

    Returns:
        (n + 1, 3, H, W) float32, normalised.

    Example:
        >>> settings = ImageSettings((32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "squash", 16)
        >>> images_for(settings, [np.zeros((40, 60, 3), np.uint8)]).shape
        (2, 3, 32, 32)
    """
    height, width = settings.size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    shaped = [
        Image.fromarray(photo).resize((width, height), filters[settings.interpolation], _box(photo, width / height))
        for photo in photographs
    ]
    stacked = np.stack([np.asarray(image) for image in (*shaped, noise)]).astype(np.float32) / 255
    normalised = (stacked - np.asarray(settings.mean, np.float32)) / np.asarray(settings.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))


def _box(photo: NDArray[np.uint8], aspect: float) -> tuple[float, float, float, float]:
    """The largest centred part of that aspect, (left, top, right, bottom) in pixels."""
    height, width = photo.shape[:2]
    w, h = min(width, height * aspect), min(height, width / aspect)
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def _compare_tokens(file: Tokenizer, expected: NDArray[np.int64], source: ClipSource, comparison: Comparison) -> None:
    settings = source.tokenizer
    tokens = padded(file, TEXTS, settings.context_length, settings.pad_id, settings.end_id)
    differ = np.flatnonzero((tokens != expected).any(1))
    at = repr(TEXTS[differ[0]]) if len(differ) else f"all {len(TEXTS)} texts"
    comparison.add(OTHER_TOKENS, float(len(differ)), at)


def _compare_tower(
    path: Path, name: str, inputs: NDArray[np.generic], source: ClipSource, comparison: Comparison
) -> None:
    """Compare every input alone, then all in chunks, with the features that the library computes."""
    with without_telemetry():
        import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = _reference(name, inputs, source)
    names = [output.name for output in session.get_outputs()]
    if names != list(expected):
        comparison.faults.append(f"{path.name} has the outputs {', '.join(names)}, expected {', '.join(expected)}")
        return
    alone = [slice(i, i + 1) for i in range(len(inputs))]
    chunks = [slice(i, i + CHUNK) for i in range(0, len(inputs), CHUNK)]
    for part in (*alone, *chunks):
        at = f"{name} {part.start}" + ("" if part in alone else f"–{part.stop - 1} at once")
        for output, features in zip(names, session.run(None, {name: inputs[part]}), strict=True):
            what = PATCHES if output == "patch_features" else IMAGE if name == "images" else TEXT
            _compare(features, expected[output][part], what, at, comparison)


def _reference(name: str, inputs: NDArray[np.generic], source: ClipSource) -> dict[str, Array]:
    with torch.inference_mode():
        given = torch.from_numpy(inputs)
        if name == "tokens":
            return {"features": source.encode_text(given).numpy()}
        features = {"features": source.encode_image(given).numpy()}
        if source.patches is not None:
            features["patch_features"] = source.patches(given).numpy()
        return features


def _compare(features: NDArray[np.generic], expected: Array, what: str, at: str, comparison: Comparison) -> None:
    if problem := malformed(features, expected):
        comparison.faults.append(f"{what} at {at}: {problem}")
        return
    a, b = np.asarray(features, np.float64), np.asarray(expected, np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = (a * b).sum(-1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    comparison.add(f"{what} (1 − cosine)", float((1 - cosine).max()), at)
    comparison.add(f"{what} (share)", share_off(a, b), at)
