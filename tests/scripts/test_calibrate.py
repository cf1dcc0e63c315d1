"""Calibration changes scores as it says, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.export
pytest.importorskip("ultralytics", reason="needs the extra [export]")


def _logit(score: np.ndarray) -> np.ndarray:
    return np.log(score / (1 - score))


@pytest.mark.parametrize("low", [0.1, 0.03])
def test_scores_are_stretched_and_the_rest_stays(demo_checkpoint: Path, coffee: Path, tmp_path: Path, low: float):
    from fastsam_deploy.export.checkpoint.load import load_checkpoint
    from fastsam_deploy.runtime import load_image
    from fastsam_deploy.runtime.stages.letterbox import fit, letterbox

    command = [sys.executable, "-m", "scripts.demo_model.calibrate", str(demo_checkpoint)]
    command += [str(tmp_path / "c.pt"), "--score", "0.65", "--low", str(low)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    image = load_image(coffee)
    blob = letterbox(image, fit(image.shape[:2], (320, 320)))[None]
    (before, masks), (after, same_masks) = (
        load_checkpoint(path).run(blob) for path in (demo_checkpoint, tmp_path / "c.pt")
    )
    np.testing.assert_array_equal(masks, same_masks)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    np.testing.assert_array_equal(before[:, 5:], after[:, 5:])
    known = (before[:, 4] > 1e-4) & (before[:, 4] < 0.999)  # beyond, float32 has no logit left
    was, became = (scores[:, 4][known].astype(np.float64) for scores in (before, after))
    tenth, usual, least, score = (_logit(np.float64(value)) for value in (0.1, 0.4, low, 0.65))
    expected = tenth + (usual - tenth) / (score - least) * (_logit(was) - least)
    # The checkpoint stores FP16: the new weights are rounded to it.
    assert np.abs(_logit(became) - expected).max() < 0.05


def test_a_score_that_cannot_be_is_refused(tmp_path: Path):
    command = [sys.executable, "-m", "scripts.demo_model.calibrate", "a.pt", "b.pt", "--score", "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "expected 0 < low < score < 1" in done.stderr


def test_the_export_reads_and_writes_the_shipped_files():
    from scripts.demo_model.export import MODELS

    assert MODELS == ROOT / "models" and (MODELS / "fastsam-demo.pt").is_file()
