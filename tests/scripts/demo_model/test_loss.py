"""What counts in the class term: positives more, and little what has no label where labels are not complete."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra [export]")
pytest.importorskip("ultralytics", reason="needs the extra [export]")
pytestmark = pytest.mark.export


def test_what_has_no_label_counts_little_in_photographs():
    from scripts.demo_model.loss import DOUBTFUL_WEIGHT, RegionLoss
    from scripts.demo_model.train import build_model

    loss = RegionLoss(build_model("scratch", torch.device("cpu")), 8.0)
    logits, targets = torch.zeros(2, 3, 1), torch.tensor([[[0.0], [1.0], [0.0]]]).repeat(2, 1, 1)
    loss.complete = torch.tensor([1.0, 0.0])
    painted, photographed = loss.bce(logits, targets)[..., 0] / torch.log(torch.tensor(2.0))
    assert painted.tolist() == pytest.approx([1, 8, 1])
    assert photographed.tolist() == pytest.approx([DOUBTFUL_WEIGHT, 8, DOUBTFUL_WEIGHT])
