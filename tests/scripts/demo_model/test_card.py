"""The card of the demo model describes the files that are shipped."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from fastsam_deploy.runtime import FastSAM

MODELS = Path(__file__).resolve().parents[3] / "models"


def test_the_card_names_the_shipped_checkpoint():
    card, data = (MODELS / "README.md").read_text(encoding="utf-8"), (MODELS / "fastsam-demo.pt").read_bytes()
    row = re.search(r"\| File \| ([\d ]+) bytes, SHA-256 `([0-9a-f]{64})` \|", card)
    assert row, "the card has no row with the file's size and SHA-256"
    assert int(row[1].replace(" ", "")) == len(data)
    assert row[2] == hashlib.sha256(data).hexdigest()


def test_the_shipped_onnx_file_was_exported_from_it():
    digest = hashlib.sha256((MODELS / "fastsam-demo.pt").read_bytes()).hexdigest()
    with FastSAM(MODELS / "fastsam-demo.onnx") as model:
        assert model.spec.checkpoint_sha256 == digest
