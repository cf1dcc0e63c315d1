"""A layer of the saved network: its attributes with their types checked, and its weights as arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .archive import CheckpointArchive
from .records import Record, Refused, Tensor

_MODULES = re.compile(r"(torch\.nn\.modules|ultralytics\.nn\.modules|ultralytics\.nn\.tasks)(\.\w+)*")
_LARGEST = 65_536


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer as the checkpoint has it.

    Attributes:
        name: its place in the network, such as "model.2.cv1"; empty for the network itself.
        record: its saved attributes.
        archive: where its weights are.

    Raises:
        Refused: the record is not one of a layer.

    Example:
        >>> layer.kind, layer.child("cv1").kind  # doctest: +SKIP
        ('C2f', 'Conv')
    """

    name: str
    record: Record
    archive: CheckpointArchive

    def __post_init__(self) -> None:
        if not isinstance(self.record, Record) or not _MODULES.fullmatch(self.record.kind.name.rpartition(".")[0]):
            raise Refused(f"has something at {self.name} that is no layer of torch or ultralytics")

    @property
    def kind(self) -> str:
        """Name of its class."""
        return self.record.kind.short

    def child(self, name: str) -> Layer:
        """The layer within it that has this name."""
        part = self._parts("_modules").get(name)
        if part is None:
            raise Refused(f"has no {name} in {self}")
        return Layer(f"{self.name}.{name}".lstrip("."), part, self.archive)

    def has(self, name: str) -> bool:
        """Whether there is a layer of this name within it."""
        return self._parts("_modules").get(name) is not None

    def children(self) -> Iterator[Layer]:
        """The layers within it, in their order."""
        for name in self._parts("_modules"):
            yield self.child(name)

    def whole(self, name: str, default: int | None = None) -> int:
        """An attribute that is a whole number from 0 on."""
        value = self.record.state.get(name, default)
        if type(value) is not int or not 0 <= value <= _LARGEST:
            raise Refused(f"has no whole number {name} in {self}")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """An attribute that is true or false."""
        value = self.record.state.get(name, default)
        if not isinstance(value, bool):
            raise Refused(f"has no true or false {name} in {self}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """An attribute that is text."""
        value = self.record.state.get(name, default)
        if not isinstance(value, str):
            raise Refused(f"has no text {name} in {self}")
        return value

    def number(self, name: str) -> float:
        """An attribute that is a finite number."""
        value = self.record.state.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise Refused(f"has no number {name} in {self}")
        return float(value)

    def pair(self, name: str, default: int | None = None) -> tuple[int, int]:
        """An attribute that is one whole number, or two for height and width."""
        value = self.record.state.get(name, default)
        both = tuple(value) if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
        if not all(type(each) in (int, float) and 0 <= each <= _LARGEST and each % 1 == 0 for each in both):
            raise Refused(f"has no one or two whole numbers {name} in {self}")
        return int(both[0]), int(both[1])

    def require(self, **expected: object) -> None:
        """Refuse the layer if an attribute has another value. One that was not saved has the expected value."""
        for name, value in expected.items():
            given = self.record.state.get(name, value)
            if isinstance(given, (tuple, list, dict, Record)) or given != value:
                shown = f"{given!r:.40}" if isinstance(given, (str, int, float, type(None))) else type(given).__name__
                raise Refused(f"has {name} {shown} in {self}, expected {value!r}")

    def array(self, name: str, axes: int) -> NDArray[np.float64]:
        """A weight, a buffer or an attribute as float64.

        Raises:
            Refused: it is missing, has another number of axes, or holds NaN or infinity.
        """
        values = self.optional_array(name, axes)
        if values is None:
            raise Refused(f"has no {name} in {self}")
        return values

    def optional_array(self, name: str, axes: int) -> NDArray[np.float64] | None:
        """As `array`; None where there is none."""
        parts = {**self.record.state, **self._parts("_buffers"), **self._parts("_parameters")}
        tensor = parts.get(name)
        if tensor is None:
            return None
        if not isinstance(tensor, Tensor) or len(tensor.shape) != axes:
            raise Refused(f"has {name} in {self} that is no array with {axes} axes")
        values = self.archive.array(tensor).astype(np.float64)
        if not np.isfinite(values).all():
            raise Refused(f"has NaN or Inf in {self.name}.{name}; its training failed, use another checkpoint")
        return values

    def _parts(self, name: str) -> dict[str, Record]:
        value = self.record.state.get(name, {})
        if not isinstance(value, dict):
            raise Refused(f"has no table {name} in {self}")
        return value

    def __str__(self) -> str:
        return f"{self.name or 'the network'} ({self.kind})"
