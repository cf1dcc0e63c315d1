"""A FastSAM checkpoint: find it, load it, and run it as the reference that exports are compared with."""

from __future__ import annotations

import hashlib
import importlib
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..errors import ExportError
from ..offline import without_lookups
from .find import find_checkpoint
from .rehearsal import limits_for, rehearse
from .restricted import broken, load_restricted
from .soundness import check_soundness
from .trained_size import trained_px

_MOST = 100_000
"""Far above any number of classes, stride or number of coefficients."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded segmentation network and where it came from.

    Attributes:
        path: the file.
        sha256: of the file, hexadecimal.
        network: FP32, eval mode, on the CPU, not fused. Do not change it; change a copy.
        class_names: one for each class.
        stride: input sides are multiples of it, pixels.
        mask_dim: mask coefficients of a detection.
        trained_px: longest side of its input in training, pixels; None if the file does not say it.
        license: licence stated in the file, None if it states none.

    Example:
        >>> checkpoint = load_checkpoint("FastSAM-s.pt")  # doctest: +SKIP
        >>> checkpoint.stride, checkpoint.mask_dim, checkpoint.class_names  # doctest: +SKIP
        (32, 32, ('object',))
    """

    path: Path
    sha256: str
    network: nn.Module
    class_names: tuple[str, ...]
    stride: int
    mask_dim: int
    trained_px: int | None = None
    license: str | None = None

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the network, as the reference that exports are compared with.

        Args:
            images: (b, 3, H, W) float32 RGB in [0, 1].

        Returns:
            Detections (b, 4 + nc + mask_dim, anchors) and prototypes (b, mask_dim, H / 4, W / 4), both float32.
        """
        with torch.inference_mode():
            detections, prototypes = self.network(torch.from_numpy(images))[0]
        return detections.numpy(), prototypes.numpy()


def load_checkpoint(name: str | Path, *, trust: bool = False) -> Checkpoint:
    """Load a segmentation checkpoint that ultralytics (or CASIA's FastSAM, which is built on it) wrote.

    Args:
        name: the file, or the name of official weights (see `find_checkpoint`).
        trust: unpickle without restriction; any code in the file is run.

    Raises:
        ExportError: no such file, not a checkpoint, not a segmentation network, or, without `trust`, the file names
            objects that such a checkpoint does not need.

    Example:
        >>> load_checkpoint("models/fastsam-demo.pt").class_names  # doctest: +SKIP
        ('object',)
    """
    path = find_checkpoint(name)
    with without_lookups():
        importlib.import_module("ultralytics.nn.tasks")  # before the fork, so that it is imported once
    if not trust:
        rehearse(lambda: _try_out(_load(path, trust=False)), path, limits_for(path))
    return _load(path, trust=trust)


def _load(path: Path, *, trust: bool) -> Checkpoint:
    content = _load_trusted(path) if trust else load_restricted(path)
    network = _network_in(content, path)
    if not trust:
        check_soundness(network, path)
    try:
        return _described(_ready(network, path), content, path)
    except ExportError:
        raise
    except Exception as error:  # the attributes of the layers come from the file, and may be of any type
        raise broken(path, error) from error


def _described(network: Any, content: Mapping[Any, Any], path: Path) -> Checkpoint:
    head = network.model[-1]
    count, stride, mask_dim = operator.index(head.nc), int(head.stride.max()), operator.index(head.nm)
    if not (0 < count < _MOST and 0 < stride < _MOST and 0 < mask_dim < _MOST):
        raise ExportError(
            f"{path.name}: its head has {count} classes, stride {stride} and {mask_dim} mask coefficients, expected "
            f"1 to {_MOST - 1} of each; the file is damaged"
        )
    return Checkpoint(
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        network=network,
        class_names=_class_names(network.names, count, path),
        stride=stride,
        mask_dim=mask_dim,
        trained_px=trained_px(_settings(content.get("train_args")), stride),
        license=content.get("license") if isinstance(content.get("license"), str) else None,
    )


def _try_out(checkpoint: Checkpoint) -> None:
    """Run the network on a small image. Raises ExportError if it does not run."""
    side = 2 * checkpoint.stride
    try:
        checkpoint.run(np.zeros((1, 3, side, side), np.float32))
    except MemoryError:
        raise
    except Exception as error:  # see above
        raise broken(checkpoint.path, error) from error


def _load_trusted(path: Path) -> Any:
    from ultralytics.nn.tasks import temporary_modules

    renamed = {
        "ultralytics.yolo.utils": "ultralytics.utils",
        "ultralytics.yolo.v8": "ultralytics.models.yolo",
        "ultralytics.yolo.data": "ultralytics.data",
    }
    try:
        with temporary_modules(modules=renamed):
            return torch.load(path, map_location="cpu", weights_only=False)
    except ImportError as error:
        raise ExportError(f"{path.name}: needs a module that is not installed ({error}); install it") from error
    except Exception as error:  # a damaged pickle may ask for anything, and so raise anything
        raise broken(path, error) from error


def _network_in(content: Any, path: Path) -> nn.Module:
    """The averaged network where there is one, else the trained one."""
    if not isinstance(content, Mapping):
        raise ExportError(
            f"{path.name}: holds a {type(content).__name__}, expected a checkpoint with the network under 'model'; "
            "save it with ultralytics' model.save()"
        )
    network = next((content[key] for key in ("ema", "model") if content.get(key) is not None), content)
    if isinstance(network, nn.Module):
        return network
    if isinstance(network, Mapping) and network and all(isinstance(value, torch.Tensor) for value in network.values()):
        raise ExportError(
            f"{path.name}: holds only weights ({len(network)} tensors, the first is {next(iter(network))!r}) and not "
            "the network they belong to; load them into a network and save it with ultralytics' model.save()"
        )
    keys = ", ".join(map(str, list(content)[:6])) or "nothing"
    raise ExportError(f"{path.name}: holds {keys}, expected a network under 'model' or 'ema'; not a YOLO checkpoint")


def _ready(network: nn.Module, path: Path) -> Any:
    """The network in FP32 and eval mode, with what old versions of ultralytics and torch did not save."""
    from ultralytics.nn.modules.head import Segment
    from ultralytics.nn.tasks import SegmentationModel

    layers = getattr(network, "model", None)
    head = layers[-1] if isinstance(layers, nn.Sequential) and len(layers) else None
    if not isinstance(network, SegmentationModel) or not isinstance(head, Segment):
        raise ExportError(
            f"{path.name}: holds a {type(network).__name__} with head {type(head).__name__}, expected a "
            "SegmentationModel with a Segment head; only segmentation networks have masks"
        )
    network = network.float().eval().requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.Upsample) and not hasattr(layer, "recompute_scale_factor"):
            layer.recompute_scale_factor = None  # saved before torch 1.11
    if head.end2end:
        if head.cv2 is None:
            raise ExportError(
                f"{path.name}: was fused to its end-to-end head, which has no raw detections; export the original"
            )
        head.end2end = False  # YOLO26: the one-to-many head gives the raw detections of the contract
    for name, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise ExportError(f"{path.name}: {name} holds NaN or Inf; its training failed, use another checkpoint")
    return network


def _settings(train_args: Any) -> Mapping[Any, Any]:
    """Old versions of ultralytics saved an object with attributes."""
    return train_args if isinstance(train_args, Mapping) else getattr(train_args, "__dict__", {})


def _class_names(names: Any, count: int, path: Path) -> tuple[str, ...]:
    if not isinstance(names, Mapping | list | tuple):
        raise ExportError(f"{path.name}: its names are a {type(names).__name__}, expected a text for each class")
    listed = [names[k] for k in sorted(names)] if isinstance(names, Mapping) else list(names)
    if len(listed) != count:
        raise ExportError(f"{path.name}: names {len(listed)} classes, its head has {count}; save the checkpoint again")
    if not all(isinstance(name, str | int | float) for name in listed):
        raise ExportError(f"{path.name}: not all of its {count} names are texts; save the checkpoint again")
    return tuple(str(name) for name in listed)
