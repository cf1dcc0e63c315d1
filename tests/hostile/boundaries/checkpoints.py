"""Checkpoints: a pickle in an archive. Those that exceed limits are in tests/export/checkpoint/test_hostile.py."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

from fastsam_deploy.runtime.errors import ParameterError
from fastsam_deploy.runtime.system.scratch import scratch_folder
from tests.hostile.boundary import MB, Boundary

ROOT = Path(__file__).resolve().parents[3]
_HERE = find_spec("torch") is not None and find_spec("ultralytics") is not None


def _seeds() -> list[bytes]:
    if not _HERE:
        return [b"PK"]
    import torch
    from torch import nn

    seeds = []
    for content in (
        {"model": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU()), "ema": None, "epoch": 1},
        {"model": {"weight": torch.zeros(3), "bias": torch.ones(2, 2).half()}, "train_args": {"imgsz": 640}},
    ):
        stream = io.BytesIO()
        torch.save(content, stream)
        seeds.append(stream.getvalue())
    return seeds


def _read(content: bytes) -> None:
    if not _HERE:
        raise ParameterError("needs the extra [export]")
    from fastsam_deploy.export.checkpoint.load import _load

    with scratch_folder() as folder:
        path = Path(folder, "x.pt")
        path.write_bytes(content)
        _load(path, trust=False)


BOUNDARIES = [Boundary("checkpoint", _seeds, _read, seconds=20.0, memory_bytes=1000 * MB, share=0.5)]
