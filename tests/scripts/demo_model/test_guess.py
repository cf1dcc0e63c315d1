"""Labels of photographs: what two of three answers show."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ultralytics", reason="needs the extra [export]")
pytestmark = pytest.mark.export


def test_only_what_two_answers_show_is_a_label(monkeypatch: pytest.MonkeyPatch):
    from scripts.demo_model import guess

    left, right = np.zeros((2, 8, 12), np.float32)
    left[:, :4], right[2:6, 9:] = 1, 1
    replies = iter([
        (np.array([left.ravel(), right.ravel()]), np.array([0.9, 0.8])),
        (left[:, ::-1].reshape(1, -1), np.array([0.5])),  # the mirrored picture
        (np.zeros((0, 96), np.float32), np.zeros(0)),
    ])  # fmt: skip
    monkeypatch.setattr(guess, "answers", lambda *_: next(replies))
    labels = guess.labels(None, np.zeros((8, 12, 3), np.uint8), 0.2)
    np.testing.assert_array_equal(labels, [left > 0])
