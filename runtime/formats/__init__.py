"""Files of segments. Each module of this folder is a format and is found by being here; its name is the format's.

A module has

- `SUFFIX`, that of its files. Of formats that share one, a path alone means the format that is called like the suffix;
- `encode(columns: Columns) -> bytes`, the content of a file;
- `decode(content: bytes) -> Columns`, unless the format is only written. It raises FastSamError for content that
  is not the format's.

Modules know segments as columns only, and import optional libraries where they use them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import FastSamError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..masks.store import Masks

NO_PROMPT = -1
"""Number in `prompts` of a row that answers no prompt."""


class Columns(Protocol):
    """Segments of one image as parallel columns; see `Segments`, which has them."""

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]: ...
    @property
    def scores(self) -> NDArray[np.float32]: ...
    @property
    def classes(self) -> NDArray[np.int64]: ...
    @property
    def masks(self) -> Masks: ...
    @property
    def prompts(self) -> NDArray[np.int64]: ...
    @property
    def fits(self) -> NDArray[np.float32]: ...
    @property
    def probabilities(self) -> NDArray[np.float32]: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, eq=False)
class LoadedColumns:
    """Columns read from a file. `Segments` checks that they fit one another."""

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    masks: Masks
    prompts: NDArray[np.int64]
    fits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """One module of this folder.

    Attributes:
        decode: None for a format that is only written.
    """

    name: str
    suffix: str
    encode: Callable[[Columns], bytes]
    decode: Callable[[bytes], Columns] | None


def available() -> tuple[Format, ...]:
    """All formats, by name.

    Example:
        >>> [(form.name, form.suffix) for form in available() if form.decode is not None]
        [('json', '.json'), ('npz', '.npz')]
    """
    modules = {info.name: import_module(f".{info.name}", __name__) for info in pkgutil.iter_modules(__path__)}
    return tuple(
        Format(name, module.SUFFIX, module.encode, getattr(module, "decode", None))
        for name, module in sorted(modules.items())
    )


def format_of(path: Path, name: str | None = None) -> Format:
    """The format of a file.

    Args:
        name: of the format; None: the suffix says it.

    Raises:
        FastSamError: there is no such format, or the suffix is not that of its files.

    Example:
        >>> format_of(Path("coffee.npz")).name
        'npz'
    """
    forms = available()
    if name is not None:
        named = [form for form in forms if form.name == name]
        if not named:
            raise FastSamError(f"{path}: format {name!r}, expected one of {', '.join(form.name for form in forms)}")
        forms = tuple(named)
    fitting = [form for form in forms if form.suffix == path.suffix]
    if not fitting:
        suffixes = sorted({form.suffix for form in forms})
        raise FastSamError(f"{path}: suffix {path.suffix!r}, expected {' or '.join(suffixes)}")
    return next((form for form in fitting if form.name == path.suffix[1:]), fitting[0])
