"""Write tests/data/clip-tiny: a CLIP folder with random weights, for tests where PyTorch is not installed.

    python scripts/dev/make_tiny_clip.py [FOLDER]

The architecture is that of OpenAI (a ViT with a class token, a causal text transformer), but much smaller: embed_dim
32, 2 layers of width 32, images 64×64 in patches of 16, 24 tokens. Its weights are random, so a cosine only shows that
two images differ. The tokenizer is that of CLIP with a vocabulary trained on the text below. Needs the extras
[export,clip-export].
"""

# ruff: noqa: TID251 - the model is made with torch; the runtime does not import it

from __future__ import annotations

import gzip
import math
import re
import shutil
import sys
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from fastsam_deploy.export.clip.source import source_from_open_clip
from fastsam_deploy.export.clip.to_clip import ClipProof, write_clip
from fastsam_deploy.runtime.errors import FastSamError

TARGET = Path(__file__).resolve().parents[2] / "tests/data/clip-tiny"
NAME = "tiny-random"
CONTEXT_LENGTH = 24
VOCABULARY = 600  # 256 bytes, 256 bytes that end a word, merges, start and end

TEXT = """
a photo of a dog. a photo of the black dog on the grass. a photo of a cat. the white cat sleeps on the red sofa.
a red car stands in the street beside a blue car. the wheel of a car. the wheel of a bicycle. two people walk.
a cup of coffee on a wooden table with a spoon and a saucer. the spoon in the cup. a glass of water. a bottle.
an astronaut in an orange suit. the helmet of the astronaut. a flag. a woman smiles. the hand of a woman. a man.
a green tree behind the house. the window and the door of the house. the sky is blue. the sea. a boat on the water.
a round ball. a square box. a yellow triangle. a purple circle to the left of a green circle. the largest object.
an apple, a banana, an orange and a pear. a chair, a lamp, a book, a phone, a screen, a keyboard and a mouse.
"""


def tiny_tokenizer() -> SimpleTokenizer:
    """open_clip's tokenizer with a vocabulary of `VOCABULARY` tokens, trained on `TEXT`."""
    merges = [" ".join(pair) for pair in _merges(VOCABULARY - 512 - 2)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "merges.txt.gz"
        path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *merges]).encode()))
        return SimpleTokenizer(str(path), context_length=CONTEXT_LENGTH)


def _merges(count: int) -> list[tuple[str, str]]:
    """The pairs that a byte-pair encoding of `TEXT` joins, first to last.

    `tokenizers` can train too, but breaks ties by the order of its hash tables; here the pair that is last in the
    alphabet wins.
    """
    words = Counter(re.findall(r"[a-z]+|[^a-z\s]+", TEXT.lower()))
    spelled = {word: (*word[:-1], f"{word[-1]}</w>") for word in words}
    merges = []
    for _ in range(count):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelled.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        spelled = {word: _joined(parts, best) for word, parts in spelled.items()}
    return merges


def _joined(parts: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    i = 0
    while i < len(parts):
        matches = parts[i : i + 2] == pair
        joined.append("".join(pair) if matches else parts[i])
        i += 2 if matches else 1
    return tuple(joined)


def tiny_model() -> Any:
    """A CLIP with random weights whose features differ between images and between texts."""
    torch.manual_seed(0)
    layers = {"layers": 2, "mlp_ratio": 2.0}
    model = CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 64, "patch_size": 16, "width": 32, "head_width": 16, **layers},
        text_cfg={"context_length": CONTEXT_LENGTH, "vocab_size": VOCABULARY, "width": 32, "heads": 2, **layers},
        quick_gelu=True,
        init_logit_scale=math.log(100),  # the value in OpenAI's trained models
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embedding" in name and "token" not in name:
                nn.init.normal_(weight, std=0.3)  # positions and class token matter less than the content
            elif weight.ndim >= 2:
                # Layers keep the variance of their input, so that features depend on all of it.
                nn.init.normal_(weight, std=1.5 * weight[0].numel() ** -0.5)
            elif weight.ndim == 1:
                nn.init.normal_(weight, mean=1.0 if "ln" in name and "weight" in name else 0.0, std=0.1)
    open_clip.model.set_model_preprocess_cfg(model, _preparation())
    return model


def _preparation() -> dict[str, Any]:
    return {
        "size": 64,
        "mode": "RGB",
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }


def make(target: Path) -> ClipProof:
    """Export the tiny model into `target`, compared with the model."""
    return write_clip(source_from_open_clip(tiny_model(), tiny_tokenizer(), NAME), target)


def main() -> int:
    """Run the command: make the folder and print the findings; exit code 2 if the export fails."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    with tempfile.TemporaryDirectory() as folder:
        try:
            proof = make(Path(folder) / "clip")
        except FastSamError as error:
            print(f"make_tiny_clip: {error}", file=sys.stderr)
            return 2
        for finding in proof.findings:
            print(finding)
        size = sum(path.stat().st_size for path in proof.path.iterdir())
        shutil.copytree(proof.path, target, dirs_exist_ok=True)  # its README.md stays
    print(f"{target}: {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
