"""What the pickle of a checkpoint is turned into: plain Python data, and the records here, which can do nothing.

A record keeps the dotted name of a class as text. The class itself is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ITEM_SIZES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
"""Bytes of an element, for each kind of storage in torch."""

MAX_AXES = 8
"""The weights of a convolution have four axes."""

_MOST = 2**40


class Refused(Exception):  # noqa: N818
    """The checkpoint is damaged, or names or does what no YOLO checkpoint needs; the text says what.

    Example:
        >>> raise Refused("calls os.system")
        Traceback (most recent call last):
        ...
        fastsam_deploy.export.direct.records.Refused: calls os.system
    """


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function, as the pickle has it.

    Attributes:
        name: such as "torch.nn.modules.conv.Conv2d".

    Example:
        >>> Global("torch.nn.modules.conv.Conv2d").short
        'Conv2d'
    """

    name: str

    @property
    def short(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]


@dataclass(eq=False, slots=True)
class Record:
    """An object of a class that the pickle names: its saved attributes, and nothing that could run.

    Attributes:
        kind: the class.
        state: attribute → value. Parameters and layers are under "_parameters", "_buffers" and "_modules".

    Example:
        >>> Record(Global("torch.nn.modules.activation.SiLU"), {"inplace": True}).state
        {'inplace': True}
    """

    kind: Global
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers in a member of the archive, not read yet.

    Attributes:
        key: name of the member below `data/`.
        kind: name of the storage's class, a key of `ITEM_SIZES`.
        count: number of elements.

    Raises:
        Refused: the kind is unknown, or the count is none.

    Example:
        >>> Storage("0", "HalfStorage", 12).bytes
        24
    """

    key: str
    kind: str
    count: int

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or self.kind not in ITEM_SIZES or not _is_count(self.count):
            raise Refused(f"has a storage of kind {self.kind:.40}, expected one of {', '.join(ITEM_SIZES)}")

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return self.count * ITEM_SIZES[self.kind]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An array in a storage, not read yet. Its elements lie side by side and lie in the storage.

    Attributes:
        storage: where the numbers are.
        offset: of the first element.
        shape: length of each axis.
        strides: elements between neighbours along each axis, those of an array without gaps in some order of its axes.

    Raises:
        Refused: the elements lie outside of the storage, or one element would be used more than once (an expanded
            tensor, with which a few bytes fill any amount of memory).

    Example:
        >>> Tensor(Storage("0", "HalfStorage", 12), 0, (3, 4), (4, 1)).count
        12
        >>> Tensor(Storage("0", "HalfStorage", 1), 0, (1000, 1000), (0, 0))
        Traceback (most recent call last):
        ...
        fastsam_deploy.export.direct.records.Refused: has a tensor (1000, 1000) with strides (0, 0), expected elements \
that lie side by side
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        # The values may be anything: they are neither copied nor shown before they are known to be a few numbers.
        if len(self.shape) != len(self.strides) or len(self.shape) > MAX_AXES:
            raise Refused(f"has a tensor with {len(self.shape)} axes and {len(self.strides)} strides")
        if not all(map(_is_count, (self.offset, *self.shape, *self.strides))):
            raise Refused("has a tensor whose shape is not made of whole numbers")
        expected = 1
        for stride, length in sorted(zip(self.strides, self.shape, strict=True)):
            if length == 1 or not self.count:
                continue
            if stride != expected:
                raise Refused(
                    f"has a tensor {self.shape} with strides {self.strides}, expected elements that lie side by side"
                )
            expected *= length
        if self.offset + self.count > self.storage.count:
            raise Refused(
                f"has a tensor {self.shape} from element {self.offset} on in a storage of {self.storage.count} elements"
            )

    @property
    def count(self) -> int:
        """Number of elements."""
        count = 1
        for length in self.shape:
            count *= length
        return count


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST
