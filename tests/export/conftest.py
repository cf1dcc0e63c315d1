"""Small networks and checkpoints; real ones, made by ultralytics and torch."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def photo_batch() -> np.ndarray:
    """(2, 3, 128, 160) float32 RGB in [0, 1]: two shipped photographs."""
    from fastsam_deploy.export.proof.inputs import load_photographs
    from fastsam_deploy.runtime.stages.letterbox import fit, letterbox

    return np.stack([letterbox(p, fit(p.shape[:2], (128, 160))) for p in load_photographs()[:2]])


@pytest.fixture(scope="session")
def random_network(photo_batch: np.ndarray) -> Callable[..., Any]:
    """Make a network with random weights whose outputs vary like those of a trained one."""
    import torch
    from torch import nn
    from ultralytics.nn.tasks import SegmentationModel, yaml_model_load

    def make(config: str, nc: int = 1, **settings: Any) -> Any:
        torch.manual_seed(0)
        network = SegmentationModel({**yaml_model_load(config), **settings}, nc=nc, verbose=False)
        norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0  # one run takes over the statistics, so that no layer fades out or blows up
            nn.init.uniform_(norm.weight, 0.3, 0.6)
            nn.init.uniform_(norm.bias, 0.5, 1.5)
        with torch.no_grad():
            network.train()(torch.from_numpy(photo_batch))
        head = network.model[-1]
        for box, score in zip(head.cv2, head.cv3, strict=True):
            # Distributions that lean to the far end, so that every bin counts; scores on both sides of 0.5.
            bins = torch.linspace(0, 3, head.reg_max).repeat(4)
            box[-1].bias.data.copy_(bins)
            box[-1].weight.data *= 2
            nn.init.normal_(score[-1].weight, std=0.3)
            score[-1].bias.data.zero_()
        network.names = {i: f"thing {i}" for i in range(nc)}
        return network.eval().requires_grad_(False)

    made: dict[str, Any] = {}

    def copied(config: str, nc: int = 1, **settings: Any) -> Any:
        key = f"{config} {nc} {settings}"
        if key not in made:
            made[key] = make(config, nc, **settings)
        return copy.deepcopy(made[key])

    return copied


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save a checkpoint as ultralytics does: FP16, the network itself under "model"."""
    import torch

    def write(network: Any, name: str = "random.pt", **extra: Any) -> Path:
        path = tmp_path / name
        content = {"epoch": -1, "model": copy.deepcopy(network).half(), "ema": None, "train_args": {"imgsz": 640}}
        torch.save({**content, **extra}, path)
        return path

    return write


@pytest.fixture
def checkpoint_of_2023(
    random_network: Callable[..., Any], photo_batch: np.ndarray, tmp_path: Path
) -> tuple[Path, list[np.ndarray]]:
    """A checkpoint as ultralytics 8.0 (FastSAM's base) pickled, and what its network gives for `photo_batch`.

    Flat module names, `Detect.forward` as an attribute, its settings class, NumPy scalars, an optimizer's leftovers,
    paths; and no attribute that came later.
    """
    import torch
    from torch import nn
    from ultralytics.nn.modules.head import Detect

    network = random_network("yolov8n-seg.yaml").half().float()
    expected = [part.numpy() for part in network(torch.from_numpy(photo_batch))[0]]
    path = tmp_path / "FastSAM-old.pt"
    with pytest.MonkeyPatch.context() as patch:
        old = types.ModuleType("ultralytics.yolo.utils")
        settings = type("IterableSimpleNamespace", (types.SimpleNamespace,), {"__module__": old.__name__})
        old.IterableSimpleNamespace = settings  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "ultralytics.yolo", types.ModuleType("ultralytics.yolo"))
        patch.setitem(sys.modules, old.__name__, old)
        network.model[-1].detect = Detect.forward
        network.args = settings(imgsz=1024)
        for layer in network.modules():
            if isinstance(layer, nn.Upsample):
                del layer.recompute_scale_factor
            if type(layer).__module__.startswith("ultralytics.nn.modules."):
                patch.setattr(type(layer), "__module__", "ultralytics.nn.modules")
        extra = {
            "best_fitness": np.float64(0.5),
            "metrics": np.arange(3.0),
            "weights": Path("a/b.pt"),
            "date": "2023-06-20",
        }
        torch.save({"model": network.half(), "ema": None, "train_args": settings(imgsz=1024), **extra}, path)
    return path, expected
