"""Training in several processes steps along the mean of their gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import sys, torch
from functools import partial
from pathlib import Path
from scripts.demo_model.parallel import run_together

def work(team, folder):
    model = torch.nn.Linear(2, 1)
    model(torch.full((1, 2), float(1 + 2 * team.rank))).sum().backward()
    if not team.leads:
        model.bias.grad = None  # a parameter that one process did not use
    progress = team.average(model, 0.2 + 0.4 * team.rank)
    values = [*model.weight.grad.flatten().tolist(), *model.bias.grad.tolist(), progress]
    (Path(folder) / str(team.rank)).write_text(" ".join(f"{value:.4f}" for value in values))

if __name__ == "__main__":
    run_together(partial(work, folder=sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.export
@pytest.mark.parametrize(
    ("processes", "expected"), [(1, "1.0000 1.0000 1.0000 0.2000"), (2, "2.0000 2.0000 0.5000 0.4000")]
)
def test_gradients_and_progress_are_averaged(tmp_path: Path, processes: int, expected: str) -> None:
    pytest.importorskip("torch")
    (tmp_path / "program.py").write_text(PROGRAM)
    answers = tmp_path / "answers"
    answers.mkdir()
    command = [sys.executable, str(tmp_path / "program.py"), str(answers), str(processes)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in (str(ROOT), os.environ.get("PYTHONPATH")) if path),
        },
    )
    assert done.returncode == 0, done.stderr
    assert [file.read_text() for file in sorted(answers.iterdir())] == [expected] * processes
