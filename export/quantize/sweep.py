"""Sensitivity analysis: which blocks of a network suffer from INT8, and which have to stay in floating point."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from ...runtime.documents import parse
from ...runtime.errors import ParameterError
from ...runtime.measure.findings import failures
from .graph import Layer
from .judge import Judge, Likeness, QuantizationLimits

_FORMAT = "fastsam-deploy sweep 1"


@dataclass(frozen=True)
class BlockLoss:
    """What it costs to compute one block in INT8 and all else in FP32.

    Attributes:
        group: name of the block.
        layers: how many convolutions of it were rounded.
        loss: what the mean mask IoU and the recall lack of 1, added.
        likeness: to the FP32 file.

    Example:
        >>> likeness = Likeness(0.9, 0.95, 0.9, 100, 98, 0.9, images=6)
        >>> BlockLoss("model.4", 5, 0.15, likeness).loss
        0.15
    """

    group: str
    layers: int
    loss: float
    likeness: Likeness


@dataclass(frozen=True)
class Sweep:
    """The loss of each block, and what was tried with more and more blocks kept in floating point.

    Attributes:
        blocks: the worst first.
        tries: (names of the layers kept, likeness) of each try; the last one is the result.
        keep: names of the layers to keep in floating point.
        reached: the limits hold with these.

    Example:
        >>> Sweep((), (), ("model.22.cv2.0.2",), reached=True).keep
        ('model.22.cv2.0.2',)
    """

    blocks: tuple[BlockLoss, ...]
    tries: tuple[tuple[tuple[str, ...], Likeness], ...]
    keep: tuple[str, ...]
    reached: bool

    def to_json(self, **about: object) -> str:
        """Write a table for people and for `kept_in`.

        Args:
            about: further entries, such as model, settings and versions.
        """
        content = {
            "format": _FORMAT,
            **about,
            "reached": self.reached,
            "keep": list(self.keep),
            "blocks": [asdict(block) for block in self.blocks],
            "tries": [{"keep": list(keep), **asdict(likeness)} for keep, likeness in self.tries],
        }
        return json.dumps(content, indent=2) + "\n"


def kept_in(path: Path) -> tuple[str, ...]:
    """Read the names of the layers to keep from a file that a sweep wrote.

    Raises:
        ParameterError: it is no such file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.sweep.json"
        ...     _ = path.write_text(Sweep((), (), ("model.0",), reached=True).to_json(model="model.onnx"))
        ...     kept_in(path)
        ('model.0',)
    """
    try:
        content = parse(path.read_bytes())
        if content["format"] != _FORMAT:
            raise ValueError(f"format is {content['format']!r}, expected {_FORMAT!r}")
        return tuple(str(name) for name in content["keep"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ParameterError(f"{path}: {error}; expected a file that fastsam-export quantize --sweep wrote") from error


def sweep(
    layers: Sequence[Layer],
    quantized: Callable[[Collection[Layer]], onnx.ModelProto],
    judge: Judge,
    limits: QuantizationLimits,
    *,
    as_written: bool,
    step: Callable[[str], None] = lambda _: None,
) -> Sweep:
    """Quantize one block at a time, then keep the blocks with the greatest loss until the limits hold.

    The convolutions that end the head always stay in floating point: they are few, and their outputs become the
    detections.

    Args:
        layers: all of the network.
        quantized: makes the graph in which these layers are INT8.
        judge: compares it with the FP32 file.
        limits: what the result has to reach.
        as_written: see `Judge.judge`.
        step: called with a description of each step.

    Example:
        >>> result = sweep(layers, quantized, judge, QuantizationLimits(), as_written=True)  # doctest: +SKIP
        >>> worst = [block.group for block in result.blocks[:3]]  # doctest: +SKIP
    """
    always = {layer.name for layer in layers if layer.ends_head}
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.name not in always:
            groups.setdefault(layer.group, []).append(layer)
    blocks = []
    for i, (group, members) in enumerate(groups.items()):
        step(f"sweep: block {i + 1} of {len(groups)}, {group}")
        likeness = judge.judge(quantized(members), as_written=as_written)
        loss = 2 - likeness.mean_iou - likeness.recall
        blocks.append(BlockLoss(group, len(members), loss, likeness))
    blocks.sort(key=lambda block: -block.loss)
    tries = []
    for count in range(len(blocks)):  # never all: then nothing would be INT8
        kept = [block.group for block in blocks[:count]]
        step(f"sweep: {count} blocks kept in floating point")
        chosen = [layer for layer in layers if layer.name not in always and layer.group not in kept]
        likeness = judge.judge(quantized(chosen), as_written=as_written)
        tries.append((tuple(sorted(always | {x.name for x in layers if x.group in kept})), likeness))
        if not failures(limits.findings(likeness)):
            break
    keep, last = tries[-1]
    return Sweep(tuple(blocks), tuple(tries), keep, not failures(limits.findings(last)))
