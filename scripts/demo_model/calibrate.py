"""Stretch a checkpoint's scores so that FastSAM's usual confidence of 0.4 is a sensible cut.

    python -m scripts.demo_model.calibrate IN.pt OUT.pt --score 0.65 --low 0.03

Training weighs the few positives up, so that scores come out too high. Logits are mapped linearly: a score of
`--score` becomes 0.4, and one of `--low` becomes 0.1, so the order of the detections stays as it is. It is
done in the last layer of the class branches; nothing else changes, boxes and masks least of all.
Needs the extras [cpu,export].
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import torch  # noqa: TID251 - training needs it

from fastsam_deploy.runtime.errors import FastSamError
from fastsam_deploy.runtime.system.atomic import draft_of

LOW, USUAL = 0.1, 0.4  # what `--low` and `--score` become


def calibrate(source: Path, target: Path, score: float, low: float = LOW) -> tuple[float, float]:
    """Write `target`, the checkpoint at `source` with logits x scale + shift; returns (scale, shift).

    Raises:
        ValueError: the scores are not 0 < low < score < 1. FastSamError: the target cannot be written.
    """
    if not 0 < low < score < 1:
        raise ValueError(f"score is {score} and low {low}, expected 0 < low < score < 1: they become {USUAL} and {LOW}")
    scale = (_logit(USUAL) - _logit(LOW)) / (_logit(score) - _logit(low))
    shift = _logit(LOW) - _logit(low) * scale
    # Our own file from our own training: nothing foreign is unpickled.
    checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    for branch in checkpoint["model"].model[-1].cv3:
        last = branch[-1]
        last.weight.data = (last.weight.data.float() * scale).to(last.weight.dtype)
        last.bias.data = (last.bias.data.float() * scale + shift).to(last.bias.dtype)
    with draft_of(target) as draft:
        torch.save(checkpoint, draft)
    return scale, shift


def _logit(score: float) -> float:
    return math.log(score / (1 - score))


def main() -> int:
    """The command; 2 when the arguments make no sense."""
    parser = argparse.ArgumentParser(description="Stretch a checkpoint's scores.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--score", type=float, required=True, help=f"becomes {USUAL}")
    parser.add_argument("--low", type=float, default=LOW, help=f"becomes {LOW}; default: {LOW} stays")
    arguments = parser.parse_args()
    try:
        scale, shift = calibrate(arguments.source, arguments.target, arguments.score, arguments.low)
    except (ValueError, OSError, FastSamError) as error:
        print(f"scripts.demo_model.calibrate: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.target}: logits x {scale:.4f} {shift:+.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
