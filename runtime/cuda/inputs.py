"""What is kept for each shape of the network's input, and let go of when it was not used for long."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np

from ..spec import ModelSpec
from .network import DeviceNetwork, Shape
from .shapes import LEAST_ROOM, Shapes

KEPT_INPUTS = 64
"""Shapes of the network's input that something is kept for, at least: a folder of photographs has a few dozen."""


@dataclass(eq=False)
class Room:
    """Runs of one input with one room for detections; see `Shapes.with_room_for`.

    Attributes:
        shapes: of such a run.
        sizes: `Shapes.nbytes` of them.
        fitted_at: generation of the shared buffers for which they are known to be large enough; None: never.
        has_run: whether there was such a run.

    Example:
        >>> inputs.use((1, 640, 640)).room_for(300).sizes["kept"]  # doctest: +SKIP
        9600
    """

    shapes: Shapes
    sizes: Mapping[str, int]
    fitted_at: int | None = None
    has_run: bool = False


@dataclass(eq=False)
class Input:
    """What is kept for one shape of the network's input.

    Attributes:
        blob: (batch, 3, H, W).
        shapes: of a run, with the least room for detections.
        tensors: bytes of the network's inputs and outputs.
        rooms: by their number of detections.
        users: runs that need it at the moment.

    Example:
        >>> inputs.use((1, 640, 640)).shapes.columns  # doctest: +SKIP
        8400
    """

    blob: Shape
    shapes: Shapes
    tensors: dict[str, int]
    rooms: dict[int, Room] = field(default_factory=dict)
    users: int = 0

    def room_for(self, max_det: int) -> Room:
        """The room for so many detections of an image; each is made once."""
        number = self.shapes.room_for(max_det)
        if number not in self.rooms:
            shapes = self.shapes.with_room_for(max_det)
            self.rooms[number] = Room(shapes, shapes.nbytes())
        return self.rooms[number]


class Inputs:
    """The inputs that were used last. Not thread-safe.

    Example:
        >>> inputs = Inputs(network, spec, 64, lambda kept: None)  # doctest: +SKIP
    """

    def __init__(self, network: DeviceNetwork, spec: ModelSpec, most: int, forget: Callable[[Input], None]) -> None:
        """
        Args:
            most: inputs that are kept; more while runs need them.
            forget: frees what is kept for an input, of which nothing is running.
        """
        self._network = network
        self._spec = spec
        self._most = most
        self._forget = forget
        self._kept: OrderedDict[Shape, Input] = OrderedDict()
        self.dtypes = {info.name: np.dtype(info.dtype) for info in network.outputs}

    def __len__(self) -> int:
        return len(self._kept)

    def use(self, batch_hw: tuple[int, int, int]) -> Input:
        """What is kept for a batch of inputs of (H, W); its user says when it is `done`.

        Raises:
            ParameterError: the network does not take them. ModelError: its outputs are not those of its layout.
        """
        blob = (batch_hw[0], 3, *batch_hw[1:])
        kept = self._kept.pop(blob, None) or self._new(blob)
        self._kept[blob] = kept
        kept.users += 1
        if len(self._kept) > self._most:
            unused = [other for other in self._kept.values() if not other.users]
            for other in unused[: len(self._kept) - self._most]:
                del self._kept[other.blob]
                self._forget(other)
        return kept

    def done(self, kept: Input) -> None:
        """One user less."""
        kept.users -= 1

    def _new(self, blob: Shape) -> Input:
        spec = self._spec
        made = self._network.output_shapes({spec.input: blob})
        detections = made[spec.detections], self.dtypes[spec.detections].name
        if spec.layout == "split":
            detections = (*made[spec.detections][:2], 6 + spec.mask_dim), "float32"
        prototypes = made[spec.prototypes], self.dtypes[spec.prototypes].name
        shapes = Shapes.of(spec, blob, detections, prototypes, LEAST_ROOM)
        outputs = {name: prod(shape) * self.dtypes[name].itemsize for name, shape in made.items()}
        return Input(blob, shapes, {spec.input: prod(blob) * (2 if shapes.half_input else 4), **outputs})
