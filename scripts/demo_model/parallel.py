"""How training uses the processors: several processes with batches of their own, or one process and its threads.

On two processors, PyTorch with two threads took 12.1 views a second at 448 x 640 and with one thread 8.3: two processes
of one thread each, whose gradients are averaged, lose less.
"""

# ruff: noqa: TID251 - training and scoring need torch and ultralytics; the runtime imports neither
from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Team:
    """The processes that train together.

    Attributes:
        rank: number of this process, from 0; the first one reports and saves.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process reports and saves."""
        return self.rank == 0

    def average(self, model: torch.nn.Module, progress: float) -> float:
        """Replace the gradients by the mean over all processes; returns the mean of `progress`.

        Every process must call it at every step, so all see the same progress and end together.
        """
        if self.size == 1:
            return progress
        parameters = [p for p in model.parameters() if p.requires_grad]
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([part.reshape(-1) for part in parts] + [torch.tensor([progress])])
        dist.all_reduce(flat)
        flat /= self.size
        place = 0
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)
            parameter.grad.copy_(flat[place : place + parameter.numel()].view(parameter.shape))
            place += parameter.numel()
        return float(flat[-1])


def run_together(work: Callable[[Team], None], size: int) -> None:
    """Call `work(team)` in `size` processes of one thread each, or here if `size` is 1."""
    if size == 1:
        work(Team())
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        torch.multiprocessing.spawn(_work, (work, size, meeting), nprocs=size)


def _work(rank: int, work: Callable[[Team], None], size: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    try:
        work(Team(rank, size))
    finally:
        dist.destroy_process_group()


@dataclass
class ThreadTuner:
    """Chooses between one thread and all by trying both now and then: which is faster depends on the neighbours.

    Attributes:
        most: the larger number of threads.
        period: steps between trials.
        trial: steps of each number of threads in a trial; the first step of each is not counted.
    """

    most: int
    period: int = 60
    trial: int = 4
    best: int = 0
    step: int = 0
    seconds: dict[int, float] = field(default_factory=dict)

    def choose(self) -> int:
        """Return the number of threads for the next step."""
        place = self.step % self.period
        if self.most == 1 or place >= 2 * self.trial:
            return self.best or self.most
        return 1 if place < self.trial else self.most

    def report(self, threads: int, seconds: float) -> None:
        """Take note of how long a step took."""
        place = self.step % self.period
        self.step += 1
        if place >= 2 * self.trial:
            return
        if place % self.trial == 0:
            self.seconds[threads] = 0.0
        else:
            self.seconds[threads] = self.seconds.get(threads, 0.0) + seconds
        if place == 2 * self.trial - 1 and len(self.seconds) == 2:
            self.best = min(self.seconds, key=lambda number: self.seconds[number])
